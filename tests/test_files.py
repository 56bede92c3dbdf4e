"""Outputs are replaced whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import SafetensorError

from patchdm.errors import PatchDMError
from patchdm.files import replacing, sha256

WRITE_AND_DIE = """
import os, signal
from pathlib import Path
from patchdm.files import replacing
with replacing(Path("{name}")) as fresh:
    {write}
    os.kill(os.getpid(), signal.SIGKILL)
"""


def make(path: Path, text: str, *, folder: bool) -> None:
    """Write a file, or a folder with that file and one named after its text."""
    if folder:
        path.mkdir()
        (path / "same.txt").write_text(text)
        (path / f"{text}.txt").write_text(text)
    else:
        path.write_text(text)


def contents(path: Path) -> dict[str, str]:
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return {file.name: file.read_text() for file in files}


@pytest.mark.parametrize("folder", [False, True])
def test_replaces_what_was_there(tmp_path: Path, folder: bool):
    out = tmp_path / "deep" / "out"
    for text in ("old", "new"):
        with replacing(out) as fresh:
            make(fresh, text, folder=folder)
    make(tmp_path / "wanted", "new", folder=folder)
    assert list(contents(out).values()) == list(contents(tmp_path / "wanted").values())
    assert [path.name for path in out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_exception_leaves_the_old(tmp_path: Path, folder: bool, error: type[BaseException]):
    out = tmp_path / "out"
    make(out, "old", folder=folder)
    before = contents(out)
    with pytest.raises(error), replacing(out) as fresh:
        make(fresh, "new", folder=folder)
        raise error
    assert contents(out) == before
    assert list(tmp_path.iterdir()) == [out]


def test_writing_nothing_leaves_the_old(tmp_path: Path):
    out = tmp_path / "out"
    make(out, "old", folder=True)
    before = contents(out)
    with pytest.raises(FileNotFoundError), replacing(out):
        pass
    assert contents(out) == before


def fill(fresh: Path) -> None:
    fresh.mkdir()
    Path("/dev/full").write_text("whose writes fail for real")


def fill_by_copying(fresh: Path) -> None:
    """What `shutil.copytree` raises has no errno."""
    source = fresh.with_name("source")
    make(source, "new", folder=True)
    fresh.mkdir()
    (fresh / "same.txt").symlink_to("/dev/full")
    shutil.copytree(source, fresh, dirs_exist_ok=True)


def fill_by_torch(fresh: Path) -> None:
    """`torch.save` ends so where it cannot close its archive either."""
    try:
        fill(fresh)
    except OSError:
        raise RuntimeError("unexpected pos 64 vs 0")  # noqa: B904 - as torch does


def fill_by_safetensors(fresh: Path) -> None:
    """It would put its file in the place of /dev/full; this is what it says on a full tmpfs."""
    fresh.mkdir()
    raise SafetensorError(
        "Error while serializing: I/O error: No space left on device (os error 28)"
    )


@pytest.mark.parametrize("write", [fill, fill_by_copying, fill_by_torch, fill_by_safetensors])
def test_full_disk_leaves_the_old_and_names_the_output(
    tmp_path: Path, write: Callable[[Path], None]
):
    out = tmp_path / "deep" / "out"
    out.parent.mkdir()
    make(out, "old", folder=True)
    before = contents(out)
    with pytest.raises(OSError, match="No space left") as error, replacing(out) as fresh:
        write(fresh)
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(out))
    assert contents(out) == before
    assert not fresh.exists()


@pytest.mark.parametrize("named", [True, False])
def test_a_read_only_disk_names_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
):
    def refuse(path: Path, *_: object, **__: object) -> None:
        name = [str(path)] if named else []
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), *name)

    monkeypatch.setattr(Path, "unlink", refuse)  # also of what is not there
    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(OSError, match="Read-only") as error, replacing(tmp_path / "out") as fresh:
        fresh.write_text("new")
    assert (error.value.errno, error.value.filename) == (errno.EROFS, str(tmp_path / "out"))


def test_a_mistake_about_another_file_stays(tmp_path: Path):
    message = "photo.jpg: cannot be read: Permission denied"
    with pytest.raises(PatchDMError, match=message), replacing(tmp_path / "out"):
        raise PatchDMError(message)


@pytest.mark.parametrize(
    "write",
    [
        "fresh.write_text('half')",
        "fresh.mkdir(); (fresh / 'half.txt').write_text('half')",
        "Path('out').rename('.out.old'); fresh.write_text('whole')",
    ],
    ids=["file", "folder", "between the renames"],
)
def test_kill_leaves_a_sibling_that_the_next_call_removes(tmp_dir: Path, write: str):
    make(tmp_dir / "out", "old", folder=True)
    program = WRITE_AND_DIE.format(name="out", write=write)
    killed = subprocess.run([sys.executable, "-c", program], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_dir / ".out.partial").exists()

    with replacing(tmp_dir / "out") as fresh:
        assert not fresh.exists()
        make(fresh, "new", folder=True)
    assert contents(tmp_dir / "out") == {"new.txt": "new", "same.txt": "new"}
    assert [path.name for path in tmp_dir.iterdir()] == ["out"]


def test_kill_leaves_the_old(tmp_dir: Path):
    make(tmp_dir / "out", "old", folder=False)
    program = WRITE_AND_DIE.format(name="out", write="fresh.write_text('half')")
    subprocess.run([sys.executable, "-c", program], check=False)
    assert contents(tmp_dir / "out") == {"out": "old"}


def test_a_link_is_replaced_and_its_target_left(tmp_path: Path):
    target, out = tmp_path / "target", tmp_path / "out"
    make(target, "old", folder=True)
    out.symlink_to(target)
    with replacing(out) as fresh:
        make(fresh, "new", folder=False)
    assert not out.is_symlink()
    assert contents(out) == {"out": "new"}
    assert contents(target) == {"old.txt": "old", "same.txt": "old"}


def test_sha256(tmp_path: Path):
    (tmp_path / "abc").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    assert sha256(tmp_path / "abc") == known
