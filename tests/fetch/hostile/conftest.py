"""What holds for every hostile case: memory is bounded, and nothing is written elsewhere."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

GROWTH = 200 * 2**10
"""KiB that a case may add to the peak of this process."""


@pytest.fixture(autouse=True)
def bounded_memory() -> Iterator[None]:
    """Fail a case that needs much memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < GROWTH


@pytest.fixture(autouse=True)
def nothing_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a case that writes anything but below `deep/target`, which it may know or guess."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield
    assert list(folder.iterdir()) == []
    outside = [path for path in tmp_path.rglob("*evil*") if tmp_path / "deep" not in path.parents]
    assert outside == []
    assert not list(Path("/tmp").glob("*evil*"))
    assert not list((tmp_path / "deep").glob("target/raw/**/*evil*"))
