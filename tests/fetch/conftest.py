"""Servers for the tests of sources, and retries that don't wait."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from patchdm.fetch import transfer
from tests.fetch.server import Site, serve


@pytest.fixture
def site() -> Iterator[Site]:
    """A web server on this host."""
    with serve() as found:
        yield found


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry at once: the pauses have a test of their own."""
    quick = transfer.RETRY.new(backoff_factor=0, backoff_jitter=0, retry_after_max=0)
    monkeypatch.setattr(transfer, "RETRY", quick)
