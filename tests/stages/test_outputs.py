"""Outputs of stages: a file of the user's is refused, one of a stage or of DVC's is not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from patchdm.errors import PatchDMError
from stages._outputs import refuse_foreign_files, writing

OUT = Path("data/raw")


@pytest.fixture(autouse=True)
def _output(tmp_dir: Path) -> None:
    assert Path.cwd() == tmp_dir
    write(OUT, {"a.jpg": "ours", "folder/b.jpg": "ours too"})


def write(output: Path, files: dict[str, str]) -> None:
    with writing(output) as fresh:
        for name, text in files.items():
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            (fresh / name).write_text(text)


def refusal(output: Path = OUT) -> str:
    with pytest.raises(PatchDMError) as raised:
        refuse_foreign_files([output])
    return str(raised.value)


def test_what_a_stage_wrote_passes():
    refuse_foreign_files([OUT])
    write(OUT, {"c.jpg": "newer"})
    refuse_foreign_files([OUT])
    (OUT / "c.jpg").unlink()  # what is missing is nobody's loss
    refuse_foreign_files([OUT])


@pytest.mark.parametrize("name", ["IMG_1.jpg", "folder/IMG_1.jpg", "mine/deep/IMG_1.jpg", ".x"])
def test_a_file_of_the_users_is_refused_by_its_name(name: str):
    (OUT / name).parent.mkdir(parents=True, exist_ok=True)
    (OUT / name).write_text("ours")
    assert refusal().startswith(f"data/raw/{name}: found a file that no stage wrote")


def test_the_others_are_counted():
    for number in range(3):
        (OUT / f"IMG_{number}.jpg").write_text("mine")
    assert refusal().startswith("data/raw/IMG_0.jpg (and 2 more): ")


def test_a_file_that_took_the_place_of_ours_is_refused():
    (OUT / "a.jpg").write_text("the user's own of that name")
    assert refusal().startswith("data/raw/a.jpg: ")


def test_a_link_of_the_users_is_refused_and_not_followed(tmp_dir: Path):
    (tmp_dir / "photographs").mkdir()
    (tmp_dir / "photographs/x.jpg").write_text("mine")
    (OUT / "linked").symlink_to(tmp_dir / "photographs")
    assert refusal().startswith("data/raw/linked: ")


def test_a_folder_that_was_there_before_any_run_is_refused():
    patches = Path("data/patches")
    patches.mkdir()
    refuse_foreign_files([patches])
    (patches / "IMG_1.jpg").write_text("mine")
    assert refusal(patches).startswith("data/patches/IMG_1.jpg: ")


def test_an_output_of_one_file_is_looked_at_too():
    codes = Path("data/codes.parquet")
    codes.write_text("from elsewhere")
    assert refusal(codes).startswith("data/codes.parquet: ")


def test_what_file_managers_leave_everywhere_passes():
    for name in (".DS_Store", "Thumbs.db", "._a.jpg"):
        (OUT / name).write_text("a thumbnail")
    refuse_foreign_files([OUT])


def test_a_kill_between_record_and_rename_leaves_nothing_unknown(monkeypatch: pytest.MonkeyPatch):
    def die(_path: Path, _target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(Path, "replace", die)
        write(OUT, {"c.jpg": "never there"})
    refuse_foreign_files([OUT])


def test_what_dvc_put_there_passes_and_a_copy_under_another_name_does_not():
    run = lambda *words: subprocess.run(words, check=True, capture_output=True)  # noqa: E731
    dvc = [sys.executable, "-m", "dvc"]
    run("git", "init")
    run(*dvc, "init")
    run(*dvc, "add", str(OUT))
    shutil.rmtree(".state")  # such as in a clone that pulled its outputs
    refuse_foreign_files([OUT])
    shutil.copy(OUT / "a.jpg", OUT / "IMG_1.jpg")
    assert refusal().startswith("data/raw/IMG_1.jpg: ")
