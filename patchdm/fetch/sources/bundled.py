"""An archive and the CSV beside it that says what is in it."""

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
from patchdm.fetch.sources.listing import Item, Listing, Place, one_by_one, read_csv

_COLUMNS = ["file", "origin", "licence", "sha256"]


@contextmanager
def open_bundled(data: Data, place: Place) -> Iterator[Listing]:
    """Yield the photographs of an archive, which are exactly those of the CSV beside it.

    Raises:
        PatchDMError: archive or CSV is missing or damaged, or a file is missing, surplus, or
            listed twice.
    """
    location = place.root / data.location
    table = _read_table(location.with_suffix(".csv"))
    found = {}
    for member in members(location, str(location)):
        name = PurePosixPath(member.name).name
        if name in found:
            raise PatchDMError(f"{location}: found two files named {name}, expected one")
        found[name] = member.name
    for surplus in sorted(found.keys() - table.keys()):
        csv_path = location.with_suffix(".csv")
        raise PatchDMError(f"{location}: found {surplus}, which is not in {csv_path}")
    for missing in sorted(table.keys() - found.keys()):
        csv_path = location.with_suffix(".csv")
        raise PatchDMError(f"{location}: {missing} is missing, it is in {csv_path}")
    items = (_item(location, member, table) for member in members(location, str(location)))
    yield one_by_one(items, len(table), place)


def _item(location: Path, member: Member, table: dict[str, list[str]]) -> Item:
    name = PurePosixPath(member.name).name
    inner = name if refuse(member.name) is None else member.name  # whose refusal is then said
    published, licence, sha256 = table[name]
    origin = f"{location}/{member.name}"
    return Item(
        inner,
        origin,
        published,
        partial(unpack, member, name=origin),
        version=sha256,
        licence=licence,
        sha256=sha256,
    )


def _read_table(path: Path) -> dict[str, list[str]]:
    """Read the CSV beside an archive: file name -> origin, licence, sha256."""
    header, *rows = read_csv(path)
    table: dict[str, list[str]] = {}
    for found in (header, *rows):
        if len(found) != len(_COLUMNS) or (found is header and found != _COLUMNS):
            raise PatchDMError(f"{path}: found {found}, expected the columns {_COLUMNS}")
    for name, *facts in rows:
        facts[-1] = facts[-1].lower()
        if not re.fullmatch(r"[^/\\\0]{1,200}", name) or name in (".", ".."):
            raise PatchDMError(f"{path}: found file {name!r}, expected bare names")
        if not re.fullmatch(r"[0-9a-f]{64}", facts[-1]):
            raise PatchDMError(f"{path}: {name} has sha256 {facts[-1]!r}, expected 64 hex digits")
        if name in table:
            raise PatchDMError(f"{path}: {name} is listed twice, expected once")
        table[name] = facts
    return table
