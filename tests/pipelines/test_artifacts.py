from __future__ import annotations

from typing import Any

import pytest

from pipelines import artifacts

BAR = "train_patchdm ━━━━━━╸━━━━━━━━━━━━━       {done:>3}/150 12.5 images/s 0:00:01 0:00:11"


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


def test_a_progress_bar_becomes_an_artifact_and_few_lines(shown: list[float]):
    progress = artifacts.Progress("b@one")
    said = [progress.follow(BAR.format(done=done)) for done in (0, 15, 30, 150, 150)]
    first = "train_patchdm 0/150 12.5 images/s 0:00:01 0:00:11"
    assert said == [first, None, None, first.replace(" 0/", " 150/"), None]
    assert shown == [0, 100]


def test_other_lines_are_kept(shown: list[float]):
    progress = artifacts.Progress("b@one")
    for line in ("Running stage 'a':", "seen 3/4", "reports/a/b.json: 1/2 done"):
        assert progress.follow(line) == line
    assert shown == []


def test_keys_are_what_prefect_allows():
    assert artifacts.artifact_key("train@no-code-1", "Index") == "train-no-code-1-index"
