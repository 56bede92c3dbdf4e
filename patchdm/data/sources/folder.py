"""A folder of images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from patchdm.config.data import Data
from patchdm.data.arrival import copy
from patchdm.data.images import SUFFIXES
from patchdm.data.sources.listing import Item, Listing, Place, one_by_one
from patchdm.errors import PatchDMError


@contextmanager
def open_folder(data: Data, place: Place) -> Iterator[Listing]:
    """Yield every JPEG, PNG and WebP file below a folder, in the order of their paths.

    Raises:
        PatchDMError: it is no folder, or holds no image.
    """
    location = place.root / data.location
    if not location.is_dir():
        raise PatchDMError(f"{location}: data.location is no folder, source `folder` needs one")
    paths = sorted(path for path in location.rglob("*") if path.suffix.lower() in SUFFIXES)
    paths = [path for path in paths if path.is_file()]
    if not paths:
        raise PatchDMError(f"{location}: found no image, allowed are {', '.join(sorted(SUFFIXES))}")
    yield one_by_one((_item(location, path) for path in paths), len(paths), place)


def _item(location: Path, path: Path) -> Item:
    name = path.relative_to(location).as_posix()
    try:
        status = path.stat()
        version = f"{status.st_ino} {status.st_size} {status.st_mtime_ns}"
    except OSError:  # `bring` says so
        version = ""
    return Item(name, str(path), name, partial(_copy, path), version)


def _copy(path: Path, target: Path) -> None:
    try:
        source = path.open("rb")
    except OSError as error:
        raise PatchDMError(f"{path}: cannot be read: {error.strerror}") from None
    with source:
        copy(source, target, str(path))
