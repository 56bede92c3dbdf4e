"""An archive and the CSV next to it that says what is in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath

from patchdm.config.data import Data
from patchdm.errors import PatchDMError
from patchdm.fetch.archives import Member, members, unpack
from patchdm.fetch.names import refuse
from patchdm.fetch.sources.listing import Listed, Listing, Workspace, one_by_one, read_csv

_COLUMNS = ["file", "author", "origin", "licence", "sha256"]
_WITHOUT_AUTHOR = ["file", "origin", "licence", "sha256"]  # which is read too


@contextmanager
def open_listing(data: Data, workspace: Workspace) -> Iterator[Listing]:
    """Yield the photographs of an archive, which are exactly those of the CSV next to it."""
    location = workspace.root / data.location
    csv_path = location.with_suffix(".csv")
    table = _read_table(csv_path)
    found = set[str]()
    for member in members(location, str(location)):
        name = PurePosixPath(member.name).name
        if name in found:
            raise PatchDMError(f"{location}: found two files named {name}, expected one")
        found.add(name)
    for surplus in sorted(found - table.keys()):
        raise PatchDMError(f"{location}: found {surplus}, which is not in {csv_path}")
    for missing in sorted(table.keys() - found):
        raise PatchDMError(f"{location}: {missing} is missing, it is in {csv_path}")
    photographs = (_listed(location, member, table) for member in members(location, str(location)))
    yield one_by_one(photographs, len(table), workspace)


def _listed(location: Path, member: Member, table: dict[str, list[str]]) -> Listed:
    file_name = PurePosixPath(member.name).name
    # A member whose path is refused keeps it, so that the refusal is reported.
    image = file_name if refuse(member.name) is None else member.name
    source, licence, sha256 = table[file_name]
    name = f"{location}/{member.name}"
    return Listed(image, name, source, partial(unpack, member, name=name), sha256, licence, sha256)


def _read_table(path: Path) -> dict[str, list[str]]:
    """Read the CSV next to an archive: file name -> origin, licence, sha256."""
    header, *rows = read_csv(path)
    table: dict[str, list[str]] = {}
    expected = _WITHOUT_AUTHOR if header == _WITHOUT_AUTHOR else _COLUMNS
    for found in (header, *rows):
        if len(found) != len(expected) or (found is header and found != expected):
            raise PatchDMError(f"{path}: found {found}, expected the columns {expected}")
    for name, *_author, origin, licence, sha256 in rows:
        if not re.fullmatch(r"[^/\\\0]{1,200}", name) or name in (".", ".."):
            raise PatchDMError(f"{path}: found file {name!r}, expected bare names")
        if not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
            raise PatchDMError(f"{path}: {name} has sha256 {sha256!r}, expected 64 hex digits")
        if name in table:
            raise PatchDMError(f"{path}: {name} is listed twice, expected once")
        table[name] = [origin, licence, sha256.lower()]
    return table
