"""Sources of photographs: each lists its items, `fetch` brings one of them in."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from patchdm.data.images import SUFFIXES, read_image
from patchdm.data.raw import Photograph
from patchdm.errors import PatchDMError

MAX_BYTES = 2**28
"""Largest file that is copied or unpacked."""

_CHUNK = 2**20
_COLUMNS = ["file", "origin", "licence", "sha256"]


class Item(NamedTuple):
    """A photograph that can be fetched."""

    name: str
    """Where it goes, a relative path without `..`."""
    origin: str
    """Where it comes from, for error messages: a path or address."""
    open: Callable[[], IO[bytes]]
    source: str
    """Who published it, or its path below the folder it comes from."""
    licence: str
    sha256: str | None
    """What its SHA-256 must be, where that is known."""


@contextlib.contextmanager
def bundled(location: Path) -> Iterator[list[Item]]:
    """Yield the photographs of a zip archive, which are exactly those of the CSV beside it.

    Raises:
        PatchDMError: archive or CSV is missing or damaged, or a file is missing, surplus,
            no regular file, or named so that it would leave the folder.
    """
    table_path = location.with_suffix(".csv")
    table = _read_table(table_path)
    try:
        archive = zipfile.ZipFile(location)
    except (OSError, zipfile.BadZipFile) as error:
        raise PatchDMError(f"{location}: no readable zip archive: {error}") from None
    with archive:
        members = _members(location, archive)
        for surplus in sorted(members.keys() - table.keys()):
            raise PatchDMError(f"{location}: found {surplus}, which is not in {table_path}")
        for missing in sorted(table.keys() - members.keys()):
            raise PatchDMError(f"{location}: {missing} is missing, it is in {table_path}")
        yield [
            Item(
                name,
                f"{location}/{members[name].filename}",
                partial(archive.open, members[name]),
                source=origin,
                licence=licence,
                sha256=sha256,
            )
            for name, (origin, licence, sha256) in table.items()
        ]


@contextlib.contextmanager
def folder(location: Path) -> Iterator[list[Item]]:
    """Yield every JPEG, PNG and WebP file below a folder, in the order of their paths.

    Raises:
        PatchDMError: it is no folder, or holds no image.
    """
    if not location.is_dir():
        raise PatchDMError(f"{location}: data.location is no folder, source `folder` needs one")
    paths = sorted(path for path in location.rglob("*") if path.suffix.lower() in SUFFIXES)
    paths = [path for path in paths if path.is_file()]
    if not paths:
        raise PatchDMError(f"{location}: found no image, allowed are {', '.join(sorted(SUFFIXES))}")
    names = [path.relative_to(location).as_posix() for path in paths]
    yield [
        Item(name, str(path), partial(io.FileIO, path), name, "unknown", None)
        for name, path in zip(names, paths, strict=True)
    ]


SOURCES: dict[str, Callable[[Path], AbstractContextManager[list[Item]]]] = {
    "bundled": bundled,
    "folder": folder,
}
"""Every value of params key data.source."""


def fetch(item: Item, target: Path) -> Photograph:
    """Copy one photograph to `target / item.name` and check it.

    Raises:
        PatchDMError: it cannot be read, is too large, has a wrong hash, or is no whole image.
    """
    path = target / item.name
    path.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as file:
        for chunk in _chunks(item):
            size += len(chunk)
            if size > MAX_BYTES:
                raise PatchDMError(f"{item.origin}: found more than {MAX_BYTES} bytes, the limit")
            digest.update(chunk)
            file.write(chunk)
    found = digest.hexdigest()
    if item.sha256 not in (None, found):
        raise PatchDMError(f"{item.origin}: found sha256 {found}, allowed is {item.sha256}")
    read_image(path, name=item.origin)
    return Photograph(item.name, item.source, item.licence, found, size)


def _chunks(item: Item) -> Iterator[bytes]:
    """Read an item piece by piece, so that memory does not depend on its size."""
    try:
        with item.open() as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        # RuntimeError: an encrypted member, or (NotImplementedError) an exotic compression
        raise PatchDMError(f"{item.origin}: cannot be read: {error}") from None


def _members(location: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Map the bare name of every file of an archive to its member; folders are left out."""
    members: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        path = PurePosixPath(member.filename)
        kind = stat.S_IFMT(member.external_attr >> 16)
        if path.is_absolute() or ".." in path.parts or "\\" in member.filename:
            raise PatchDMError(f"{location}: found {member.filename!r}, allowed are inner paths")
        if member.is_dir():
            continue
        if kind not in (0, stat.S_IFREG):
            raise PatchDMError(f"{location}: {member.filename} is no regular file")
        if path.name in members:
            raise PatchDMError(f"{location}: found two files named {path.name}, allowed is one")
        members[path.name] = member
    return members


def _read_table(path: Path) -> dict[str, list[str]]:
    """Read the CSV beside an archive: file name -> origin, licence, sha256."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file, strict=True)
    except (OSError, ValueError, csv.Error) as error:  # ValueError: not UTF-8, or empty
        raise PatchDMError(f"{path}: no readable CSV: {error}") from None
    table: dict[str, list[str]] = {}
    for found in (header, *rows):
        if len(found) != len(_COLUMNS) or (found is header and found != _COLUMNS):
            raise PatchDMError(f"{path}: found {found}, allowed are the columns {_COLUMNS}")
    for name, *facts in rows:
        if not re.fullmatch(r"[^/\\\0]{1,200}", name) or name in (".", ".."):
            raise PatchDMError(f"{path}: found file {name!r}, allowed are bare names")
        if not re.fullmatch(r"[0-9a-f]{64}", facts[-1]):
            raise PatchDMError(f"{path}: {name} has sha256 {facts[-1]!r}, allowed: 64 hex digits")
        if name in table:
            raise PatchDMError(f"{path}: {name} is listed twice, allowed is once")
        table[name] = facts
    return table
