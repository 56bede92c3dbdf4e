"""The hook of mkdocs: pages made of the code and of other files, links, figures in the page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

from tools.site import reference, sections
from tools.site.links import DeadLinkError, indented, pictures, relinked

ROOT = Path(__file__).resolve().parents[2]
FIGURE = re.compile(r'<img alt="([^"]*)" src="[^"]*figures/([a-z]+)\.svg" ?/?>')


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made, and the pictures outside docs that pages show."""
    made = {
        "reference/commands.md": reference.commands(),
        "reference/params.md": reference.params(ROOT),
        "reference/python.md": reference.python(ROOT),
        "reference/http.md": reference.http(),
    }
    try:
        made |= {page: sections.text_of(ROOT, each) for page, each in sections.PAGES.items()}
    except LookupError as error:
        raise PluginError(str(error)) from None
    for page, text in made.items():
        files.append(File.generated(config, page, content=text))
    shown = set()
    for file in files.documentation_pages():
        shown |= pictures(file.content_string, _origin(file.src_uri))
    for path in sorted(shown):
        if not path.startswith("docs/") and (ROOT / path).is_file():
            files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:  # noqa: ARG001
    """Let links lead to pages of the site, and write lists as Python-Markdown reads them."""
    at = page.file.src_uri
    try:
        linked = relinked(markdown, _origin(at), at, ROOT, sections.moved())
    except DeadLinkError as error:
        raise PluginError(str(error)) from None
    return indented(linked)


def on_page_content(html: str, *, page: Any, config: Any, files: Files) -> str:  # noqa: ARG001
    """Put figures into the page, where they follow its colours."""

    def figure(match: re.Match[str]) -> str:
        drawing = (ROOT / f"docs/figures/{match[2]}.svg").read_text()
        label = f'<svg role="img" aria-label="{match[1]}" '
        return f'<span class="figure">{drawing.replace("<svg ", label, 1).strip()}</span>'

    return FIGURE.sub(figure, html)


def _origin(page: str) -> str:
    """Return the file of the repository that a page is from."""
    if page in sections.PAGES:
        return sections.PAGES[page].file
    return "README.md" if page == "reference/python.md" else f"docs/{page}"
