"""The page in headless Chromium, as readers open it."""

from __future__ import annotations

from pathlib import Path

from stages._common import REPORT
from stages.report import report
from tests.browser import CUT_OFF, MARKS, chromium
from tests.report.pages import Page
from tests.report.runs import write_run
from tests.stages.tiny import tiny_params

DESKTOP, PHONE = (1400, 900), (390, 844)

pytestmark = MARKS


def test_the_page_opens_without_complaint(tmp_dir: Path, landscapes: Path) -> None:
    params = tiny_params(ablation={"variants": ["full", "no-code"], "seeds": [0, 1]})
    write_run(tmp_dir, landscapes, params)
    report(params)
    expected = Page(REPORT.read_text())
    complaints: list[str] = []
    with chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(120_000)  # milliseconds: a busy machine takes its time
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.append(request.url))
        for width, height in (DESKTOP, PHONE):
            page.set_viewport_size({"width": width, "height": height})
            page.goto(REPORT.absolute().as_uri())
            widths = page.eval_on_selector_all("img", "all => all.map(i => i.naturalWidth)")
            rows = page.eval_on_selector_all(
                "table", "all => all.map(t => t.tBodies[0].rows.length)"
            )
            assert len(widths) == len(expected.images)
            assert min(widths) > 0
            assert rows == [len(table) - 1 for table in expected.tables]
            assert min(rows) > 0
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate(CUT_OFF) == []
        enlarge = page.locator("#picture-sheet-samples button")
        shown = page.locator(":popover-open img")
        enlarge.focus()
        small = page.locator("#picture-sheet-samples img").bounding_box()
        page.keyboard.press("Enter")
        large = shown.bounding_box()
        assert small
        assert large
        assert large["height"] > small["height"]
        page.keyboard.press("Escape")
        assert shown.count() == 0
        enlarge.click()
        assert shown.count() == 1
        enlarge.click()
        assert shown.count() == 0
    assert complaints == []
