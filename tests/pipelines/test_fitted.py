"""The folder of a run that `patchdm fit` chose: a clone with params of its own."""

from __future__ import annotations

import io
import shutil
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


def test_without_a_clone_it_is_a_repository_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    root, folder = tmp_path / "share", tmp_path / "runs/mine"
    (root / ".dvc").mkdir(parents=True)
    for name in (".dvc/config", ".gitignore"):
        shutil.copy(REPO / name, root / name)
    (root / "dvc.yaml").write_text(toy.STAGES)
    lay_out(folder, monkeypatch, root)
    assert (folder / "params.yaml").read_text() == "x: 7\n"
    assert toy.run(folder, "git", "status", "--short") == ""
    files = set(toy.run(folder, "git", "ls-files").splitlines())
    assert {"dvc.yaml", "patchdm/pipeline.py", "pipelines/git.py", "stages/check.py"} <= files
    assert not [name for name in files if "__pycache__" in name]
    listed = toy.run(folder, sys.executable, "-m", "dvc", "stage", "list", "--name-only")
    assert listed.split() == ["a", "b@one", "b@two", "c"]


def test_a_copy_without_history_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "patchdm").mkdir()
    with pytest.raises(SystemExit, match=r"^error: .*: found no \.git, expected a clone"):
        lay_out(tmp_path / "runs/mine", monkeypatch, tmp_path)
    assert not (tmp_path / "runs").exists()


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
