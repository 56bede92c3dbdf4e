from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines import artifacts, process


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Percentages that Prefect is told."""
    told: list[float] = []

    def create(percent: float, key: str, what: str) -> str:
        assert (key, what) == ("b-one-progress", "train_patchdm")
        told.append(percent)
        return "id"

    def update(_artifact: Any, percent: float) -> None:
        told.append(percent)

    monkeypatch.setattr(artifacts, "create_progress_artifact", create)
    monkeypatch.setattr(artifacts, "update_progress_artifact", update)
    return told


def test_progress_becomes_an_artifact(shown: list[float]):
    progress = artifacts.Progress("b@one")
    for line in (
        "train_patchdm: 0 of 150,000 windows",
        "train_patchdm: 37,500 of 150,000 windows, 131/s, 14 min left",
        "train_patchdm: 150,000 of 150,000 windows, done in 19 min",
    ):
        progress.follow(line)
    assert shown == [0, 25, 100]


def test_what_a_child_of_a_flow_shows_is_followed(shown: list[float], tmp_path: Path):
    (tmp_path / "work.py").write_text(
        "from patchdm import console\n"
        "with console.progress('train_patchdm', 8, 'images') as advance_to: advance_to(4)\n"
    )
    progress = artifacts.Progress("b@one")
    assert process.run(["work"], progress.follow, tmp_path) == 0
    assert shown == [50]


def test_other_lines_are_none(shown: list[float]):
    progress = artifacts.Progress("b@one")
    for line in ("Running stage 'a':", "seen 3/4", "a.json: 1/2 done", "download: 12 MiB"):
        progress.follow(line)
    assert shown == []


def test_keys_are_what_prefect_allows():
    assert artifacts.artifact_key("train@no-code-1", "Index") == "train-no-code-1-index"
