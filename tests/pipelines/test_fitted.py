"""The folder of a run that `patchdm fit` chose: a clone with params of its own."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from pipelines import fitted
from tests.conftest import REPO
from tests.pipelines import toy


def lay_out(folder: Path, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, "stdin", io.StringIO("x: 7\n"))
    fitted.main(["lay-out", str(folder)])


def test_it_runs_there(toy_repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "runs/mine"
    folder.mkdir(parents=True)  # an empty one is taken
    lay_out(folder, monkeypatch, toy_repo)
    assert (folder / "params.yaml").read_text() == "x: 7\n"
    command = [sys.executable, "-m", "pipelines.fitted", "repro", str(folder)]
    toy.run(toy_repo, *command, env=toy.environment() | {"PYTHONPATH": str(REPO)})
    assert (folder / "b-two.txt").read_text() == "x: 7\n"
    assert (toy_repo / "params.yaml").read_text() == "x: 1\n"


def test_a_folder_with_files_stays(toy_repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "kept.txt").touch()
    with pytest.raises(SystemExit, match="^error: .*mine: Directory not empty"):
        lay_out(folder, monkeypatch, toy_repo)
    assert [path.name for path in folder.iterdir()] == ["kept.txt"]


def test_other_words_are_refused():
    with pytest.raises(SystemExit, match="^error: found \\['x'\\], expected lay-out or repro"):
        fitted.main(["x"])
