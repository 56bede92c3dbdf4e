"""Write files so that a kill at any moment leaves the old file or the new one, never a part."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from patchdm.errors import FULL, PatchDMError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a new path next to `path` to write a file or folder to; rename it to `path` at the end.

    On an exception the new file is removed and `path` stays as it was. The next call removes what a
    kill has left. One writer at a time: callers hold the stage's lock.

    Raises:
        OSError: the disk is full, read-only or broken, in whatever form the writer reported it; it
            names `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.partial")
    old = path.with_name(f".{path.name}.old")
    _remove(fresh)
    _remove(old)
    try:
        yield fresh
        if path.is_dir() and not path.is_symlink():
            path.rename(old)  # a folder cannot be renamed over one that holds files
        fresh.replace(path)
    except BaseException as error:
        if old.exists() and not path.exists():
            old.rename(path)
        _remove(fresh)
        if refusal := _refusal(error, fresh):
            raise OSError(refusal, os.strerror(refusal), str(path)) from error
        raise
    _remove(old)


def link_or_copy(file: str | Path, target: str | Path) -> None:
    """Give a file a second name, or copy it if the disk has no hard links."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def in_gb(count: float) -> str:
    """Write bytes in gigabytes: one digit behind the point, below 1 three that count."""
    gb = count / 1e9
    return f"{gb:,.1f} GB" if gb >= 1 else f"{gb:.3g} GB"


def check_room(folder: Path, needed: float) -> None:
    """Refuse a disk with fewer free bytes than a folder, which may not be there yet, will take.

    Raises:
        PatchDMError: it says how many.
    """
    place = folder.absolute()
    disk = next(path for path in (place, *place.parents) if path.exists())
    free = shutil.disk_usage(disk).free
    if needed > free:
        raise PatchDMError(
            f"{folder}: found {in_gb(free)} of free disk, expected {in_gb(needed)} or more"
        )


def _refusal(error: BaseException | None, fresh: Path) -> int | None:
    """Return the error number if the cause is a disk that cannot be written.

    A failing write does not know its file; torch hides the OSError behind another error,
    safetensors and `shutil.copytree` keep only its text.
    """
    while error is not None:
        named = error.filename if isinstance(error, OSError) else None
        if isinstance(error, OSError) and named == str(fresh):
            return error.errno
        said = named is not None or isinstance(error, PatchDMError)  # and names its file
        for number in FULL if said else (*FULL, errno.EROFS, errno.EACCES, errno.EIO):
            if os.strerror(number) in str(error):
                return number
        error = error.__cause__ or error.__context__
    return None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):  # a read-only disk refuses even to remove what is not there
        path.unlink()
