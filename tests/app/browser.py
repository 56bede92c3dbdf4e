"""The studio in Chromium: a server, and pages that complain."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, Request

SECONDS = 120_000  # milliseconds: a busy machine takes its time


@dataclass
class Site:
    """A server of the studio, and a browser that complains."""

    url: str
    browser: Browser
    complaints: list[str] = field(default_factory=list)

    def page(self, *, width: int = 1400, height: int = 900, scheme: str = "light") -> Page:
        """Open the page in a browser of its own."""
        context = self.browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,  # type: ignore[arg-type]
            accept_downloads=True,
        )
        page = context.new_page()
        page.set_default_timeout(SECONDS)
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._local)
        page.goto(self.url)
        until(page, "document.querySelector('#model').textContent")
        return page

    def _local(self, request: Request) -> None:
        if not request.url.startswith((self.url, "data:", "blob:")):
            self.complaints.append(f"asked {request.url}")


def until(page: Page, script: str) -> None:
    """Wait for a page without evaluating in it, which its policy forbids."""
    end = time.monotonic() + SECONDS / 1000
    while not page.evaluate(script):
        assert time.monotonic() < end, script
        time.sleep(0.02)


def fill(page: Page, form: str, **values: object) -> None:
    for name, value in values.items():
        page.fill(f"#{form}-form [name={name}]", str(value))


def opened(page: Page, tab: str, file: str) -> Page:
    """Open a photograph in a tab."""
    page.click(f"#tab-{tab}")
    page.set_input_files(f"#{tab}-file", file)
    page.wait_for_selector(f"#{tab}-image:visible")
    return page


def ready(page: Page, tab: str, count: int) -> None:
    page.wait_for_selector(f"#{tab}-results[data-state=done]")
    assert page.locator(f"#{tab}-results [data-state=ready]").count() == count


def downloaded(page: Page, selector: str, path: Path) -> np.ndarray:
    with page.expect_download() as download:
        page.click(selector)
    download.value.save_as(path)
    return np.asarray(Image.open(path).convert("RGB"))
