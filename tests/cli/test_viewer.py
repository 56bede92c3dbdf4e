"""The page that shows a panorama, opened from its folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from patchdm.cli.app import main
from tests.browser import MARKS, chromium
from tests.cli.runs import STEPS

pytestmark = MARKS


@pytest.mark.usefixtures("work")
def test_the_page_shows_it_from_a_folder_and_asks_for_nothing_else():
    out = Path('a"b <c> é.dzi')
    main(["panorama", "run/data/models", "--size", "75x20", "--seeds", "0:4", "--wrap", "x", *STEPS,
          "--viewer", "--out", str(out)])  # fmt: skip
    complaints: list[str] = []
    asked: list[str] = []
    with chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(120_000)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.append(request.url))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(out.with_suffix(".html").absolute().as_uri())
        page.wait_for_function("document.querySelectorAll('canvas').length > 1")
        page.wait_for_load_state("networkidle")
        assert page.title() == 'a"b <c> é'
        shot = page.screenshot(path="shot.png")
    assert shot
    assert complaints == []
    assert all(url.startswith("file:///") for url in asked)
    assert any(url.endswith("_0.jpg") for url in asked)
    colours = np.asarray(Image.open("shot.png").convert("RGB")).reshape(-1, 3)
    assert len(np.unique(colours, axis=0)) > 100  # not the background alone
