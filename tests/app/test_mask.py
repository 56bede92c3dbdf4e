"""Painting a mask: zoomed in, kept over a reload, on photographs that were dropped or pasted."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page

from patchdm.formats.images import save_png
from tests.app.browser import Site, fill, opened, ready, until
from tests.browser import MARKS
from tests.photographs import photograph

pytestmark = MARKS
GIVE = """([selector, name, kind, base64]) => {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], "photo.png", { type: "image/png" }));
  const details = { bubbles: true, cancelable: true, [kind]: data };
  const Event = { dataTransfer: DragEvent, clipboardData: ClipboardEvent }[kind];
  document.querySelector(selector).dispatchEvent(new Event(name, details));
}"""
"""Drop or paste a file."""


def mask_of(site: Site, page: Page) -> np.ndarray:
    """Ask for the painted part; return the mask that the server got."""
    with page.expect_response(lambda response: response.url.endswith("/api/images")) as response:
        page.click("#inpaint-go")
    content = page.request.get(site.url.rstrip("/") + response.value.json()["url"]).body()
    return np.asarray(Image.open(io.BytesIO(content)).convert("L")) > 127


def box(page: Page, selector: str = "#inpaint-stage") -> dict[str, float]:
    found: Any = page.locator(selector).bounding_box()
    return dict(found)


@pytest.mark.slow
def test_single_pixels_of_a_large_photograph_are_painted(site: Site):
    save_png(Path("large.png"), np.tile(photograph(1, 768, 384), (8, 5, 1)))  # 3840 x 3072
    page = opened(site.page(), "inpaint", "large.png")
    easel = box(page, ".easel")
    corner = easel["x"] + easel["width"] / 2, easel["y"] + easel["height"] / 2
    page.mouse.move(*corner)
    page.keyboard.down("Control")
    for _ in range(20):
        page.mouse.wheel(0, -120)
    page.keyboard.up("Control")
    until(page, "document.querySelector('#inpaint [data-size]').textContent.includes('3200 %')")
    page.fill("#brush-pixels", "3")
    page.press("#brush-pixels", "Tab")
    assert page.input_value("#brush-size") == "3"
    before = box(page)
    page.mouse.wheel(0, 64)  # two pixels down
    until(
        page,
        f"document.querySelector('#inpaint-stage').getBoundingClientRect().y < {before['y'] - 60}",
    )
    stage = box(page)
    assert (stage["width"], stage["height"]) == (3840 * 32, 3072 * 32)
    page.mouse.click(*corner)
    assert page.inner_text("#inpaint-coverage").startswith("Less than 1 %")
    fill(page, "inpaint", number=1, steps=1)
    mask = mask_of(site, page)
    ready(page, "inpaint", 1)
    rows, columns = np.nonzero(mask)
    assert mask.shape == (3072, 3840)
    assert 5 <= mask.sum() <= 16
    assert abs(columns.mean() + 0.5 - (corner[0] - stage["x"]) / 32) < 1
    assert abs(rows.mean() + 0.5 - (corner[1] - stage["y"]) / 32) < 1
    page.focus("#inpaint-stage")
    page.keyboard.press("0")
    assert box(page)["height"] <= easel["height"] + 1


def test_two_fingers_zoom_and_paint_nothing(site: Site):
    page = opened(site.page(width=360, height=740), "inpaint", "photo.png")
    before = box(page)
    middle = before["x"] + before["width"] / 2, before["y"] + before["height"] / 2
    touch = page.context.new_cdp_session(page)

    def send(kind: str, *apart: float) -> None:
        points = [{"x": middle[0] + x, "y": middle[1], "id": n} for n, x in enumerate(apart)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    send("touchStart", -20)
    send("touchStart", -20, 20)
    for apart in range(25, 65, 5):
        send("touchMove", -apart, apart)
    send("touchEnd")
    until(page, f"document.querySelector('#inpaint-stage').offsetWidth > {2 * before['width']}")
    assert page.is_disabled("#mask-undo")
    send("touchStart", 0)
    send("touchMove", 15)
    send("touchEnd")
    until(page, "!document.querySelector('#mask-undo').disabled")


def test_a_reload_finds_the_mask_and_the_forms(site: Site):
    page = opened(site.page(), "inpaint", "photo.png")
    stage = box(page)
    page.fill("#brush-size", "6")
    for share in (0.3, 0.6):
        page.mouse.click(stage["x"] + share * stage["width"], stage["y"] + 0.5 * stage["height"])
    page.keyboard.press("Control+z")
    fill(page, "inpaint", first=7, number=3)
    page.check("#inpaint-form [name=native]")
    page.click("#tab-sample")
    fill(page, "sample", first=11, steps=5)
    page.select_option("#sample-form [name=solver]", "unipc")
    page.reload()
    until(page, "document.documentElement.dataset.ready")
    values = [
        page.input_value(f"#sample-form [name={name}]") for name in ("first", "steps", "solver")
    ]
    assert values == ["11", "5", "unipc"]
    page.click("#tab-inpaint")
    until(page, "!document.querySelector('#inpaint-go').disabled")
    assert page.input_value("#inpaint-form [name=number]") == "3"
    assert page.is_checked("#inpaint-form [name=native]")
    assert page.is_enabled("#mask-redo")
    mask = mask_of(site, page)
    columns = np.nonzero(mask)[1]
    assert abs(columns.mean() + 0.5 - 0.3 * 35) < 1
    page.click("#inpaint [data-close]")
    page.reload()
    until(page, "document.documentElement.dataset.ready")
    assert page.is_visible("#inpaint .opener")


@pytest.mark.parametrize(("name", "kind"), [("drop", "dataTransfer"), ("paste", "clipboardData")])
def test_photographs_are_dropped_and_pasted(site: Site, name: str, kind: str):
    page = site.page()
    for tab in ("inpaint", "outpaint"):
        page.click(f"#tab-{tab}")
        content = base64.b64encode(Path("photo.png").read_bytes()).decode()
        page.evaluate(GIVE, [f"#{tab} .opener", name, kind, content])
        page.wait_for_selector(f"#{tab}-image:visible")
        assert "35 × 21 pixels" in page.inner_text(f"#{tab} [data-size]")
