"""The page of a training that runs, made of what it leaves in .state/."""

from __future__ import annotations

import fcntl
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from patchdm.config import Params, load_params
from patchdm.errors import PatchDMError
from patchdm.formats.images import save_png
from patchdm.report import live
from patchdm.report.live import Training, render, trainings
from tests.conftest import REPO

CURVES = ("loss", "loss_q1", "learning_rate", "grad_norm")
NOW = 1_700_000_000


def write_points(folder: Path, seen: int, when: float = NOW) -> None:
    """Write curves up to so many items seen, last changed at a time."""
    curves = folder / "curves/plots/metrics"
    curves.mkdir(parents=True, exist_ok=True)
    for name in CURVES:
        rows = "".join(f"{n}\t0.5\n" for n in range(1000, seen + 1, 1000))
        (curves / f"{name}.tsv").write_text(f"step\t{name}\n{rows}")
        os.utime(curves / f"{name}.tsv", (when, when))
    (folder / "lock").touch()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a training that saw 3,000 items."""
    place = tmp_path / ".state/train_patchdm/abc"
    write_points(place, 3000)
    return place


@pytest.fixture(scope="module")
def params() -> Params:
    return load_params(REPO / "params.yaml")


def test_rate_and_time_left_follow_the_points(tmp_path: Path, folder: Path, params: Params):
    (first,) = trainings(tmp_path, params)
    assert (first.seen, first.total, first.running) == (3000, 150_000, False)
    assert first.rate == 0
    write_points(folder, 5000, NOW + 20)
    with (folder / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (second,) = trainings(tmp_path, params, [first])
    assert second.running
    assert second.rate == 100
    assert second.pace(NOW + 20) == "5,000 of 150,000 images, 100/s, 24 min left"
    assert replace(second, running=False).pace() == "5,000 of 150,000 images, not running"
    assert replace(second, total=5000).pace() == "5,000 of 5,000 images, done"


def test_the_newest_folder_counts(tmp_path: Path, params: Params):
    write_points(tmp_path / ".state/train_patchdm/old", 9000, NOW)
    write_points(tmp_path / ".state/train_patchdm/new", 2000, NOW + 1)
    write_points(tmp_path / ".state/train_latent/x", 4000)
    assert [(each.stage, each.seen) for each in trainings(tmp_path, params)] == [
        ("train_patchdm", 2000),
        ("train_latent", 4000),
    ]


def test_without_linux_a_training_runs_while_it_writes(
    tmp_path: Path, folder: Path, params: Params, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(live, "LOCKS", tmp_path / "none")
    monkeypatch.setattr("time.time", lambda: NOW + 10)
    assert trainings(tmp_path, params)[0].running
    monkeypatch.setattr("time.time", lambda: NOW + 10_000)
    assert not trainings(tmp_path, params)[0].running
    assert folder.exists()


def test_the_page_shows_the_newest_sheet_and_curves(tmp_path: Path, folder: Path, params: Params):
    for seen in (1000, 2000):
        save_png(folder / f"sheets/{seen:09d}.png", np.zeros((8, 16, 3), np.uint8))
    page = render(tmp_path, trainings(tmp_path, params), 15)
    assert '<meta http-equiv="refresh" content="15">' in page
    assert "Samples after 2,000 images" in page
    assert "Samples after 1,000 images" not in page
    assert page.count("<img ") == 5  # the sheet, both losses, the rate, the norm
    assert "not running" in page
    ended = render(tmp_path, trainings(tmp_path, params), 0)
    assert "http-equiv" not in ended
    assert "The training has ended." in ended


def test_nothing_yet(tmp_path: Path, params: Params):
    assert "No training has begun yet." in render(tmp_path, trainings(tmp_path, params), 15)


def test_curves_that_have_just_begun_are_left_out(tmp_path: Path, folder: Path, params: Params):
    (folder / "curves/plots/metrics/grad_norm.tsv").unlink()
    with (folder / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "<img " not in render(tmp_path, trainings(tmp_path, params), 15)
    with pytest.raises(PatchDMError, match=r"grad_norm.tsv: not found"):
        render(tmp_path, trainings(tmp_path, params), 15)


def test_marks_rise():
    training = Training(
        stage="s", title="t", unit="images", folder=Path(), total=10, marks=[], running=True
    )
    assert (training.seen, training.rate, training.done) == (0, 0.0, False)
