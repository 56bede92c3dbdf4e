"""The studio's page in Chromium: from an empty page to files whose pixels are checked."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page

from patchdm.app.nearest import Finder
from patchdm.app.photographs import OfFiles
from patchdm.app.work import Studio
from patchdm.cli.app import main
from patchdm.formats.images import read_image
from tests.app.browser import SECONDS, Site, downloaded, fill, opened, ready, until
from tests.app.conftest import served
from tests.browser import MARKS
from tests.cli.runs import HEIGHT, WIDTH, P

pytestmark = MARKS


def test_a_sample_is_shown_told_and_downloaded(site: Site):
    page = site.page()
    fill(page, "sample", first=7, number=2, columns=2 * WIDTH // P, rows=HEIGHT // P, steps=3)
    page.click("#sample-go")
    ready(page, "sample", 2)
    page.click("#sample-results .open >> nth=1")
    command = page.inner_text("#viewer-command")
    made = downloaded(page, "#viewer-download", Path("b.png"))
    assert made.shape == (HEIGHT, 2 * WIDTH, 3)
    assert "--seeds 8:9" in command
    main(["sample", "run/data/models", *command.split()[3:-1], "out"])
    (path,) = Path("out").rglob("000008.png")
    np.testing.assert_array_equal(made, read_image(path))
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    for what, copied in (("seed", "8"), ("command", command)):
        page.click(f"#copy-{what}")
        page.wait_for_selector(f"#viewer-said:text-is('{what.capitalize()} copied.')")
        assert page.evaluate("navigator.clipboard.readText()") == copied
    page.click("#to-inpaint")
    page.wait_for_selector("#inpaint-image:visible")
    page.click("#tab-sample")
    page.click("#sample-results .open >> nth=0")
    page.click("#to-outpaint")
    page.wait_for_selector("#outpaint-image:visible")
    assert page.is_checked("#outpaint-form [name=native]")  # as large as the model made it
    assert page.input_value("#outpaint-form [name=code]") == "field"


def test_a_painted_hole_is_filled_and_nothing_else(site: Site):
    photo = read_image(Path("photo.png"))
    page = opened(site.page(), "inpaint", "photo.png")
    box = page.locator("#inpaint-image").bounding_box()
    assert box is not None
    page.fill("#brush-size", "4")
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.5, steps=5)
    page.mouse.up()
    page.keyboard.press("Control+z")
    assert page.is_disabled("#inpaint-go")
    page.keyboard.press("Control+Shift+z")
    fill(page, "inpaint", number=2, steps=2)
    page.click("#inpaint-go")
    ready(page, "inpaint", 2)
    page.click("#inpaint-results .open >> nth=0")
    made = downloaded(page, "#viewer-download", Path("i.png"))
    changed = (made != photo).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert 0 < changed.sum() < 0.4 * changed.size
    assert 0.3 * 35 < columns.min() <= columns.max() < 0.7 * 35
    assert 0.25 * 21 < rows.min() <= rows.max() < 0.75 * 21


def test_borders_move_outwards_again_and_again(site: Site):
    photo = read_image(Path("photo.png"))
    page = opened(site.page(), "outpaint", "photo.png")
    assert not page.is_checked("#outpaint-form [name=native]")
    for number, width in enumerate((35 + 9, 35 + 18), start=1):
        fill(page, "outpaint", right=9, steps=2)
        page.click("#outpaint-go")
        until(page, f"document.querySelector('#outpaint-image').naturalWidth === {width}")
        made = downloaded(page, "#outpaint-download", Path(f"o{number}.png"))
        assert made.shape == (21, width, 3)
        np.testing.assert_array_equal(made[:, :35], photo)
    page.click("#outpaint-undo")
    until(page, "document.querySelector('#outpaint-image').naturalWidth === 44")


def test_a_panorama_is_made_and_looked_around_in(site: Site):
    page = site.page()
    page.click("#tab-panorama")
    fill(page, "panorama", width=10**4, height=10**4)
    too_many = "10000 × 10000 pixels, more than the 16,777,216 that this server makes"
    assert page.inner_text("#panorama-pixels") == too_many
    fill(page, "panorama", first=1, codes=3, width=75, height=2 * HEIGHT, steps=2)
    assert "landscapes will lie above each other" in page.inner_text("#panorama-pixels")
    fill(page, "panorama", height=20)
    assert page.inner_text("#panorama-pixels") == "75 × 20 pixels"
    page.select_option("#panorama-form [name=wrap]", "x")
    page.click("#panorama-go")
    ready(page, "panorama", 1)
    page.wait_for_selector("#panorama-view[data-open] canvas")
    box = page.locator("#panorama-view").bounding_box()
    assert box is not None
    assert box["width"] / box["height"] == pytest.approx(75 / 20, rel=0.01)
    page.click("#panorama-results .open")
    assert page.inner_text("#viewer-title") == "Seeds 1 to 3"
    assert page.is_hidden("#copy-seed")
    made = downloaded(page, "#viewer-download", Path("p.png"))
    assert made.shape == (20, 75, 3)
    assert "--seeds 1:4" in page.inner_text("#viewer-command")


def test_codes_between_two_seeds_are_a_row(site: Site):
    page = site.page()
    page.click("#tab-explore")
    fill(page, "explore", **{"from": 1, "to": 4, "count": 3, "steps": 2})
    page.click("#explore-go")
    ready(page, "explore", 3)
    page.select_option("#explore-form [name=way]", "around")
    fill(page, "explore", towards=5, number=2, strength=0.5)
    page.click("#explore-go")
    page.wait_for_selector("#explore-results [aria-label^='Towards 6']")
    ready(page, "explore", 2)


def test_a_job_goes_on_without_its_page_and_is_cancelled_within_a_step(site: Site):
    page = site.page()
    fill(page, "sample", number=1, steps=1000, columns=8, rows=4)
    page.click("#sample-go")
    page.wait_for_selector("#sample-results[data-state=running]")
    job = page.get_attribute("#sample-results", "data-job")
    page.reload()
    page.wait_for_selector(f"#sample-results[data-job='{job}'][data-state=running]")
    page.wait_for_selector("#sample-results img[alt^=Preview]")
    other = site.page()  # someone else's browser sees and waits
    fill(other, "sample", number=1, steps=2)
    other.click("#sample-go")
    other.wait_for_selector("#sample-results[data-state=queued]")
    start = time.monotonic()
    page.click("#sample-results .cancel")
    page.wait_for_selector("#sample-results[data-state=cancelled]")
    assert time.monotonic() - start < 60  # of a thousand steps
    ready(other, "sample", 1)


def test_a_reload_shows_the_job_that_was_shown(site: Site):
    def shown(page: Page) -> str | None:
        page.wait_for_selector("html[data-ready]")
        page.wait_for_selector("#sample-results[data-job]")
        return page.get_attribute("#sample-results", "data-job")

    page = site.page()
    fill(page, "sample", number=1, steps=1000, columns=8, rows=4)
    page.click("#sample-go")
    page.wait_for_selector("#sample-results[data-state=running]")
    first = shown(page)
    other = site.page()
    assert shown(other) == first
    fill(other, "sample", number=1, steps=2)
    other.click("#sample-go")
    other.wait_for_selector("#sample-results[data-state=queued]")
    second = shown(other)
    for each in (page, other):
        each.reload()
    assert (shown(page), shown(other), shown(site.page())) == (first, second, first)
    page.click("#sample-results .cancel")
    page.wait_for_selector("#sample-results[data-state=cancelled]")
    ready(other, "sample", 1)
    page.reload()
    assert (shown(page), shown(site.page())) == (first, second)


def test_the_strip_of_jobs_covers_nothing_that_is_used(site: Site):
    page = site.page(width=1300, height=700)  # in which forms are longer than the window
    fill(page, "sample", number=1, steps=1)
    for number in range(7):
        page.click("#sample-go")
        page.wait_for_selector(f"#queue li[data-state=done] >> nth={number}")
    page.wait_for_selector("#queue ol.more")
    page.evaluate("document.querySelector('#queue ol').scrollLeft = 1e6")
    page.wait_for_selector("#queue ol:not(.more)")
    top = "document.querySelector('#queue').getBoundingClientRect().top"
    for tab in ("sample", "panorama", "explore"):
        page.click(f"#tab-{tab}")
        if tab == "explore":
            page.select_option("#explore-form [name=way]", "around")
        for element in page.query_selector_all("main button, main input, main select, footer a"):
            if not element.is_visible():
                continue
            page.evaluate("scrollTo(0, 0)")
            element.focus()
            box = element.bounding_box()
            assert box is not None
            assert box["y"] + box["height"] <= page.evaluate(top), element.inner_html()


def test_an_error_goes_when_the_form_changes(site: Site):
    page = site.page()
    page.click("#tab-panorama")
    page.select_option("#panorama-form [name=solver]", "unipc")
    page.click("#panorama-go")
    page.wait_for_selector("#panorama-form [role=alert]:visible")
    page.select_option("#panorama-form [name=solver]", "ddim")
    assert page.is_hidden("#panorama-form [role=alert]")
    (refused,) = [line for line in site.complaints if "status of 422" in line]
    site.complaints.remove(refused)


def test_what_is_no_image_or_too_large_is_said(site: Site, tmp_path: Path):
    (tmp_path / "text.png").write_text("hello")
    with (tmp_path / "large.png").open("wb") as large:
        large.truncate(100 * 2**20)
    page = site.page()
    page.click("#tab-inpaint")
    for name, line in (
        ("text.png", "found no image"),
        ("large.png", "the server reads at most 67 MB"),
    ):
        page.set_input_files("#inpaint-file", tmp_path / name)
        alert = "document.querySelector('#inpaint .opener [role=alert]').textContent"
        until(page, f"{alert}.includes({line!r})")
    refused = [line for line in site.complaints if "status of 415" in line]
    assert len(refused) == 1
    site.complaints.remove(*refused)


def test_the_nearest_photographs_are_shown(site: Site, studio: Studio, landscapes: Path):
    studio.finder = Finder(OfFiles(landscapes, HEIGHT, WIDTH), studio.size)
    page = site.page()
    fill(page, "sample", number=1, steps=2)
    page.click("#sample-go")
    ready(page, "sample", 1)
    page.click("#sample-results .open")
    page.click("#to-nearest")
    page.wait_for_selector("#viewer-nearest img >> nth=5")
    assert page.evaluate("document.querySelector('#viewer-nearest img').naturalWidth") == WIDTH
    assert page.inner_text("#viewer-said").startswith("Nearest of the given photographs (12), by")
    names = page.locator("#viewer-nearest .name span").all_inner_texts()
    assert set(names) <= {path.name for path in landscapes.iterdir()}


def test_a_token_opens_the_page_and_leaves_the_address_bar(site: Site, studio: Studio):
    with served(studio, "secret") as url:
        page = site.browser.new_page()
        page.set_default_timeout(SECONDS)
        page.goto(f"{url}#token=secret")
        page.wait_for_selector("html[data-ready]")
        assert page.url == url
        fill(page, "sample", number=1, steps=2)
        page.click("#sample-go")
        ready(page, "sample", 1)
        shown = "document.querySelector('#sample-results .open img').naturalWidth"
        until(page, f"{shown} === {WIDTH}")
        page.click("footer a")
        page.wait_for_selector("html[data-ready] #operations h2")
        stranger = site.browser.new_page()
        stranger.goto(url)
        stranger.wait_for_selector(
            "#notice:text-is('token: expected the one that the studio printed')"
        )
