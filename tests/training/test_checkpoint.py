"""Checkpoints: complete or not there, two of them, and never a damaged one."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch

from patchdm.training.checkpoint import Checkpoints
from tests.training.test_loop import assert_same_bits
from tests.training.toy import Training


def steps(folder: Path) -> list[int]:
    return sorted(int(path.name.partition("-")[0]) for path in folder.glob("*.pt"))


def newest(folder: Path) -> Path:
    return max(folder.glob("*.pt"))


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    Training(tmp_path).run()
    assert steps(tmp_path) == [15, 20]


def test_the_newest_is_loaded(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, pytest.fail)
    assert checkpoints.load() is None
    for step in (9, 10, 100_000):
        checkpoints.save(step, {"step": step, "weights": torch.arange(3)})
    state = checkpoints.load()
    assert state is not None
    assert state["step"] == 100_000
    assert torch.equal(state["weights"], torch.arange(3))


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_one_is_warned_of_and_passed_by(tmp_path: Path, damage: str) -> None:
    whole = Training(tmp_path / "whole")
    weights = whole.run()
    with pytest.raises(Exception, match="stopped"):
        Training(tmp_path, stop_after=12).run()
    path = newest(tmp_path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes({"cut": content[:-1], "flip": content, "empty": b""}[damage])

    second = Training(tmp_path)
    assert_same_bits(second.run(), weights)
    assert second.warnings == [f"{path}: damaged checkpoint, going back to the one before"]
    assert second.progress[0] == 4 * 11
    assert second.reported == whole.reported


def test_with_all_damaged_the_training_starts_again(tmp_path: Path) -> None:
    weights = Training(tmp_path / "whole").run()
    Training(tmp_path).run()
    for path in tmp_path.glob("*.pt"):
        path.write_bytes(b"PK")
    second = Training(tmp_path)
    assert_same_bits(second.run(), weights)
    assert len(second.warnings) == 2
    assert second.progress[0] == 4


def test_what_a_kill_leaves_is_no_checkpoint(tmp_path: Path) -> None:
    """Killed while writing, or between writing and naming."""
    weights = Training(tmp_path / "whole").run()
    with pytest.raises(Exception, match="stopped"):
        Training(tmp_path, stop_after=5).run()
    for name in (".fresh.pt.partial", "fresh.pt"):
        (tmp_path / name).write_bytes(b"half")
    second = Training(tmp_path)
    assert_same_bits(second.run(), weights)
    assert second.warnings == []
    assert [path.name for path in tmp_path.iterdir() if "fresh" in path.name] == []


def test_a_full_disk_keeps_the_last_and_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(tmp_path, pytest.fail)
    checkpoints.save(1, {"step": 1})
    full, open_path = Path("/dev/full"), Path.open
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda _, mode: open_path(full, mode))
        with pytest.raises(OSError, match="No space left") as error:
            checkpoints.save(2, {"step": 2, "weights": torch.zeros(10**5)})
    assert error.value.errno == errno.ENOSPC
    assert error.value.filename == str(tmp_path / "fresh.pt")
    assert steps(tmp_path) == [1]
    assert checkpoints.load() == {"step": 1}


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    """Its hash is right, its content is not data."""

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))

    checkpoints = Checkpoints(tmp_path, pytest.fail)
    checkpoints.save(1, {"evil": Evil()})
    with pytest.raises(Exception, match="[Ww]eights"):
        checkpoints.load()
    assert not (tmp_path / "ran").exists()
