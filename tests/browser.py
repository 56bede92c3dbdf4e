"""Chromium, in which tests open pages as readers do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
CUT_OFF = """[...document.querySelectorAll("main *")].filter(element => {
  const right = element.getBoundingClientRect().right;
  return right > innerWidth && !element.closest(".scroll, .frame, pre");
}).map(element => element.outerHTML.slice(0, 80))"""
"""What lies beyond the right side of the window and cannot be scrolled to where it is."""

MARKS = [] if BROWSER else [pytest.mark.slow]
"""Of tests in it: where none is installed, which `make install` cannot do, they are slow ones."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Yield Chromium; a test that asks for it fails where there is none."""
    if BROWSER is None:
        pytest.fail(f"found none of {', '.join(NAMES)} on the path: install Chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER)
        try:
            yield browser
        finally:
            browser.close()
