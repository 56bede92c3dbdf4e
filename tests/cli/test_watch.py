"""`patchdm watch` follows a run, writes its page only, and ends with the trainings."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from patchdm.cli import watch
from patchdm.cli.app import main
from patchdm.report import live
from tests.cli.runs import refusal, snapshot
from tests.conftest import REPO
from tests.report.test_live import write_points


@pytest.fixture
def run(tmp_dir: Path) -> Path:
    """A run whose image model has seen 3,000 of 150,000 windows."""
    shutil.copy(REPO / "params.yaml", tmp_dir)
    write_points(tmp_dir / ".state/train_patchdm/abc", 3000)
    return tmp_dir


def test_it_ends_when_both_are_trained(run: Path, capsys: pytest.CaptureFixture[str]):
    write_points(run / ".state/train_patchdm/abc", 150_000)
    write_points(run / ".state/train_latent/abc", 256_000)
    before = snapshot(run)
    main(["watch"])
    out, err = capsys.readouterr()
    assert out == (
        "train_patchdm: 150,000 of 150,000 images, done; "
        "train_latent: 256,000 of 256,000 codes, done\n"
    )
    assert "reports/live/index.html" in err
    after = snapshot(run)
    assert sorted(after.keys() - before.keys()) == [
        "reports", "reports/live", "reports/live/index.html"
    ]  # fmt: skip
    assert before.items() <= after.items()


def test_it_writes_again_while_a_training_runs(run: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(live, "LOCKS", run / "none")  # whoever wrote lately runs
    seen = iter((4000, 5000))

    def sleep(_seconds: float) -> None:
        write_points(run / ".state/train_patchdm/abc", next(seen), live.time.time())

    monkeypatch.setattr(watch.time, "sleep", sleep)
    write_points(run / ".state/train_patchdm/abc", 3000, live.time.time())
    lines = watch.watch(run, 15)
    found = [next(lines) for _ in range(3)]
    assert [line.split(" of ")[0] for line in found] == [
        "train_patchdm: 3,000", "train_patchdm: 4,000", "train_patchdm: 5,000"
    ]  # fmt: skip
    assert 'content="15"' in (run / watch.PAGE).read_text()


def test_it_ends_some_time_after_a_training_was_killed(run: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(live, "LOCKS", run / "none")
    write_points(run / ".state/train_patchdm/abc", 3000, live.time.time())

    def killed(_seconds: float) -> None:
        write_points(run / ".state/train_patchdm/abc", 3000, 0)

    monkeypatch.setattr(watch.time, "sleep", killed)
    assert len(list(watch.watch(run, 50))) == 2  # it runs, and it does not
    assert "The training has ended." in (run / watch.PAGE).read_text()


def test_no_run_is_refused(tmp_dir: Path):
    (tmp_dir / "x").mkdir()
    assert refusal("watch", "x") == "x: found no params.yaml, expected the folder of a run"
