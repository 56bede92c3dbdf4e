"""The documentation site: its pages, links and figures; slow: as a browser crawls it."""

from __future__ import annotations

import functools
import http.server
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urldefrag, urljoin

import pytest
from playwright.sync_api import Page

from patchdm.cli.app import main
from patchdm.config import Params
from tests.browser import CUT_OFF, chromium
from tests.conftest import REPO
from tests.docs.blocks import FILES
from tools import figures
from tools.site import reference, sections
from tools.site.links import DeadLinkError, indented, pictures, relinked


@pytest.mark.parametrize("name", figures.FIGURES)
def test_figures_are_those_that_the_script_draws(name: str):
    assert (figures.FOLDER / f"{name}.svg").read_text() == figures.FIGURES[name]()


@pytest.mark.parametrize("page", sections.PAGES)
def test_pages_of_sections_have_text_and_links(page: str):
    text = sections.text_of(REPO, sections.PAGES[page])
    assert len(text.splitlines()) > 5
    relinked(text, sections.PAGES[page].file, page, REPO, sections.moved())


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(REPO)))
def test_links_lead_to_files(file: Path):
    name = str(file.relative_to(REPO))
    relinked(file.read_text(), name, name.removeprefix("docs/"), REPO, sections.moved())


def test_a_section_that_is_gone_is_named():
    gone = sections.Sections("Gone", "README.md", ("Gone",))
    with pytest.raises(LookupError, match="no section `## Gone`"):
        sections.text_of(REPO, gone)


def test_commands_are_all_there(capsys: pytest.CaptureFixture[str]):
    page = reference.commands()
    main(["sample", "--help"])
    options = re.findall(r"(?m)^  (--[a-z-]+)", capsys.readouterr().out)
    assert len(options) > 10
    sample = page.partition("## patchdm sample\n")[2].partition("\n## ")[0]
    assert [option for option in options if f"| `{option}" not in sample] == []
    assert "## patchdm params use\n" in page


def test_all_params_are_there():
    page = reference.params(REPO)
    for section, field in Params.model_fields.items():
        for key in field.annotation.model_fields:  # type: ignore[union-attr]
            assert f"`{section}.{key}` {{ #{section}.{key} }}" in page
    assert "Takes `bundled`, `folder`," in page
    assert "Takes whole number above 0 or `null`. Demo: `null`." in page


def test_the_api_is_there():
    page = reference.http()
    assert "### POST /api/jobs\n" in page
    assert "`202`: `application/json`, [Job](#job)" in page


def moved(text: str, page: str = "a/b.md", **others: str) -> str:
    return relinked(text, "docs/data.md", page, REPO, others)


def test_links_follow_their_page():
    text = "[x](results.md#views) [y](https://a.org) ![z](showcase.jpg)\n```\n[x](gone.md)\n```\n"
    expected = text.replace("(results", "(../results").replace("(showcase", "(../showcase")
    assert moved(text) == expected
    assert moved("[code](../Makefile)") == "code (`Makefile`)"
    found = relinked("[a](../README.md#b)", "docs/x.md", "x.md", REPO, {"README.md#b": "c/d.md#e"})
    assert found == "[a](c/d.md#e)"
    assert pictures("![a](../b.png) [c](d.png)", "docs/x.md") == {"b.png"}
    with pytest.raises(DeadLinkError, match=r"gone\.md"):
        moved("[x](gone.md)")


def test_lists_get_what_python_markdown_wants():
    assert indented("a\n- b\n  c\n\n  d\ne") == "a\n\n- b\n    c\n\n    d\ne"


class Served(http.server.SimpleHTTPRequestHandler):
    """A file server that says nothing."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Build the site and serve it; yield its URL."""
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--site-dir",
        str(folder),
    ]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}  # of an edition that is not installed
    done = subprocess.run(command, cwd=REPO, env=quiet, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    handler = functools.partial(Served, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    thread.join()


def complaining(page: Page, url: str, complaints: list[str]) -> Page:
    """Collect what a page says in its console, what it lacks, and whom else it asks."""
    page.on("console", lambda message: complaints.append(f"{page.url}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))

    def look(request: object) -> None:
        asked = request.url  # type: ignore[attr-defined]
        if not asked.startswith((url, "data:", "blob:")):
            complaints.append(f"{page.url}: asked {asked}")

    page.on("request", look)
    return page


@pytest.mark.slow
def test_the_site_has_no_dead_link_and_asks_nobody_else(site: str):
    complaints: list[str] = []
    anchors: dict[str, set[str]] = {}
    wanted: set[tuple[str, str, str]] = set()
    todo = [f"{site}index.html"]
    with chromium() as browser:
        page = complaining(browser.new_context().new_page(), site, complaints)
        while todo:
            url = todo.pop()
            if url in anchors:
                continue
            answer = page.goto(url) if url.endswith(".html") else page.request.get(url)
            assert answer is not None
            anchors[url] = set()
            if not answer.ok:
                complaints.append(f"{url}: {answer.status}")
            if not answer.ok or not url.endswith(".html"):
                continue
            anchors[url] = set(page.eval_on_selector_all("[id]", "all => all.map(each => each.id)"))
            links = page.eval_on_selector_all(
                "a[href], img[src]", "all => all.map(each => each.href ?? each.src)"
            )
            for link in links:
                there, anchor = urldefrag(urljoin(url, link))
                if there.startswith(site):
                    there = there if Path(there).suffix else urljoin(there, "index.html")
                    wanted.add((url, there, anchor))
                    todo.append(there)
    complaints += [
        f"{at}: {there}#{anchor} not found"
        for at, there, anchor in sorted(wanted)
        if anchor and anchor not in anchors[there]
    ]
    assert complaints == []
    assert len([url for url in anchors if url.endswith(".html")]) >= 24


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_windows_and_the_search(site: str, scheme: str):
    complaints: list[str] = []
    with chromium() as browser:
        window = {"width": 390, "height": 800}
        context = browser.new_context(viewport=window, color_scheme=scheme)  # type: ignore[arg-type]
        page = complaining(context.new_page(), site, complaints)
        for name in ("index", "method/index", "reference/commands", "reference/params", "results"):
            page.goto(f"{site}{name}.html")
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= 390, f"{name}: {page.evaluate(CUT_OFF)}"
        page.set_viewport_size({"width": 1200, "height": 800})
        page.goto(f"{site}index.html")
        page.fill("[data-md-component=search-query]", "collage")
        page.wait_for_selector(".md-search-result__item")
        page.goto(f"{site}method/index.html")
        assert page.locator(".figure svg").count() == len(figures.FIGURES)
    assert complaints == []
