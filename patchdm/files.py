"""Writing so that a kill at any moment leaves the old file or the new one, never a part."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a fresh sibling path to write a file or folder to; rename it to `path` at the end.

    On an exception the sibling is removed and `path` stays as it was. Siblings left by a kill
    are removed by the next call. One writer at a time: callers hold the stage's lock.
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
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a write to a full disk does not know its file
        raise
    _remove(old)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
