"""The page for everybody: WCAG by axe-core, the keyboard alone, windows of all sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from patchdm.formats.images import read_image, save_png
from tests.app.browser import Site, downloaded, fill, opened, ready, until
from tests.browser import CUT_OFF, MARKS

pytestmark = MARKS
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
TABS = ("sample", "inpaint", "outpaint", "panorama", "explore", "training")


def violations(page: Page) -> list[Any]:
    """Return what axe-core finds wrong in a page, and where."""
    found = Axe().run(page, options=RULES).response
    assert "color-contrast" in {each["id"] for each in found["passes"]}
    return [
        (each["id"], each["help"], [node["html"] for node in each["nodes"]])
        for each in found["violations"]
    ]


@pytest.mark.parametrize(
    ("size", "scheme"),
    [
        ((1400, 900), "light"),
        ((360, 740), "dark"),
        pytest.param((1400, 900), "dark", marks=pytest.mark.slow),
        pytest.param((360, 740), "light", marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_axe_finds_nothing(site: Site, scheme: str, size: tuple[int, int]):
    page = site.page(width=size[0], height=size[1], scheme=scheme)
    for tab in TABS:
        page.click(f"#tab-{tab}")
        assert violations(page) == [], tab
    page.click("#tab-explore")
    fill(page, "explore", count=2, steps=1)
    page.click("#explore-go")
    ready(page, "explore", 2)
    assert violations(page) == []
    page.click("#explore-results .open >> nth=0")
    page.click("#to-nearest")
    assert "came without its photographs" in page.inner_text("#viewer-said")
    assert violations(page) == []
    page.click("#viewer-close")
    for tab in ("inpaint", "outpaint"):
        opened(page, tab, "photo.png")
        assert violations(page) == [], tab
    page.goto(f"{site.url}docs")
    until(page, "document.documentElement.dataset.ready")
    assert violations(page) == []


def test_axe_sees_what_is_wrong(site: Site):
    page = site.page()
    page.evaluate("document.querySelector('#sample-go').style.color = '#5588aa'")
    page.evaluate(
        "document.querySelector('#sample-form label').replaceWith(document.createElement('input'))"
    )
    assert [rule for rule, *_ in violations(page)] == ["color-contrast", "label"]


def test_the_keyboard_is_enough(site: Site):
    """From the tabs to a mask and a file, without a pointer."""
    photo = read_image(Path("photo.png"))
    page = site.page()
    page.keyboard.press("Tab")
    focused = "document.activeElement.id"
    assert page.evaluate(focused) == "tab-sample"
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused) == "tab-inpaint"
    page.keyboard.press("Tab")  # into the panel
    until(page, f"{focused} !== 'tab-inpaint'")
    with page.expect_file_chooser() as chooser:
        for _ in range(6):
            if page.evaluate(focused) == "inpaint-file":
                break
            page.keyboard.press("Tab")
        page.keyboard.press("Enter")
    chooser.value.set_files("photo.png")
    page.wait_for_selector("#inpaint-image:visible")
    page.fill("#brush-size", "4")
    page.focus("#inpaint-stage")
    page.keyboard.down("Space")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.keyboard.up("Space")
    page.keyboard.press("Control+z")
    assert page.is_disabled("#inpaint-go")
    page.keyboard.press("Control+y")
    page.focus("#inpaint-form [name=number]")
    page.keyboard.press("Control+a")
    page.keyboard.type("1")
    page.focus("#inpaint-form [name=steps]")
    page.keyboard.type("2")
    page.keyboard.press("Enter")
    ready(page, "inpaint", 1)
    page.focus("#inpaint-results .open")
    page.keyboard.press("Enter")
    page.wait_for_selector("#viewer[open]")
    assert page.evaluate("document.activeElement.closest('dialog') !== null")
    made = downloaded(page, "#viewer-download", Path("k.png"))
    changed = (made != photo).any(axis=2)
    assert 0 < changed.sum() < 0.2 * changed.size
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.className") == "open"  # where one came from


def test_borders_move_by_keys(site: Site):
    page = opened(site.page(), "outpaint", "photo.png")
    page.focus("[data-side=right]")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    assert page.input_value("#outpaint-form [name=right]") == "9"
    assert page.get_attribute("[data-side=right]", "aria-valuetext") == "9 pixels to add"


@pytest.mark.parametrize("size", [(360, 740), (1400, 900), (3840, 2160)], ids=str)
def test_nothing_is_cut_off_and_everything_has_a_name(site: Site, size: tuple[int, int]):
    save_png(Path("wide.png"), np.zeros((40, 400, 3), np.uint8))
    page = site.page(width=size[0], height=size[1])
    for tab in TABS:
        page.click(f"#tab-{tab}")
        if tab in ("inpaint", "outpaint"):
            opened(page, tab, "wide.png")
        assert page.evaluate(CUT_OFF) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        unnamed = page.evaluate(
            "[...document.querySelectorAll('input, select, button, a')].filter(e =>"
            " e.checkVisibility() && !(e.labels?.length || e.textContent.trim()"
            " || e.getAttribute('aria-label'))).map(e => e.outerHTML)"
        )
        assert unnamed == []
    page.goto(f"{site.url}docs")
    until(page, "document.documentElement.dataset.ready")
    assert page.evaluate(CUT_OFF) == []
    assert page.locator("#operations h2").count() == 13
    assert "Interpolate" in page.inner_text("#schemas")
