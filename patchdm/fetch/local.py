"""A quick look at the photographs on this machine."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from patchdm.config.data import Data
from patchdm.files import sha256

_HASHED = 2**28
"""A file up to this size is identified by its bytes, so that clones of the repository agree; larger
files, and those of a folder, by size and time of change."""


def look(data: Data, root: Path = Path()) -> str:
    """Return JSON that changes when photographs on this machine change, if the source has such."""
    location = root / data.location
    count = size = 0
    digest = hashlib.sha256()
    for path in _files(location) if data.is_local else []:
        status = path.stat()
        count, size = count + 1, size + status.st_size
        if location.is_dir() or status.st_size > _HASHED:
            version = f"{status.st_size} {status.st_mtime_ns}"
        else:
            version = sha256(path)
        name = os.fsencode(os.path.relpath(path, location))
        digest.update(name + f"\0{version}\0".encode())
    found = {"files": count, "bytes": size, "version": digest.hexdigest()}
    return json.dumps(found, indent=2) + "\n"


def _files(location: Path) -> Iterator[Path]:
    """Yield the files of a location, and the table next to an archive, in a fixed order."""
    if location.is_dir():
        yield from sorted(_below(location, set()))
    elif location.is_file():
        yield location
        table = location.with_suffix(".csv")
        if table.is_file() and table != location:
            yield table


def _below(folder: Path, seen: set[tuple[int, int]]) -> Iterator[Path]:
    """Yield the files below a folder, through links too, each folder once."""
    status = folder.stat()
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _below(Path(entry.path), seen)
        elif entry.is_file():
            yield Path(entry.path)
