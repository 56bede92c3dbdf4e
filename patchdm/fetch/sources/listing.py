"""What a source lists: how many photographs, and each of them as it arrives."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import NamedTuple

from patchdm.errors import PatchDMError, one_line
from patchdm.fetch.arrival import Arrival, check_file
from patchdm.fetch.names import PassedOver
from patchdm.formats.raw import Photograph

Progress = Callable[[str, int, str], AbstractContextManager[Callable[[int], None]]]
"""Shows how far something is: called with its name, total and unit."""

_TRIES = 4


@dataclass(frozen=True)
class Workspace:
    """Where and how photographs are fetched."""

    root: Path
    """What relative locations are relative to."""
    state: Path
    """Folder in which a repeated command finds the files of a killed one."""
    transfers: int
    """Files transferred at the same time."""
    progress: Progress


class Listed(NamedTuple):
    """A photograph that a source lists and that can be fetched."""

    image: str
    """Its name below data/raw, not yet trusted."""
    name: str
    """What error messages call it."""
    source: str
    """Column `source` of the manifest."""
    fetch: Callable[[Path], None]
    """Writes it to a file, which may hold the part that an earlier call wrote."""
    version: str
    """Differs when the content does: a part of another version is not used."""
    licence: str = "unknown"
    sha256: str | None = None
    """Its expected SHA-256, if known."""


@dataclass(frozen=True)
class Listing:
    """What a source lists; a context manager around it keeps its files open."""

    total: int
    """Number of photographs."""
    arrivals: Iterable[Arrival]
    """Fetches them one by one as it is iterated, in the source's order."""
    others: Mapping[str, Path] = field(default_factory=dict)
    """Files that hold the photographs, by their names below data/raw."""
    passed_over: str = ""
    """Which files of the source are not taken, in one line; empty: all are."""


def read_csv(path: Path) -> list[list[str]]:
    """Read the header and the rows of a CSV file in UTF-8, none longer than the header."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, strict=True)
            rows = list[list[str]]()
            for row in lines:
                if rows and len(row) > len(rows[0]):
                    raise PatchDMError(
                        f"{path}: line {lines.line_num}: found {len(row)} cells, expected "
                        f"{len(rows[0])} as in the header (quote text that has commas)"
                    )
                rows += [row] if row else []  # an empty line is none
    except (OSError, ValueError, csv.Error) as error:  # ValueError: not UTF-8
        raise PatchDMError(f"{path}: no readable CSV: {one_line(error)}") from None
    if not rows:
        raise PatchDMError(f"{path}: no readable CSV: found no header")
    return rows


def one_by_one(
    listed: Iterable[Listed], total: int, workspace: Workspace, passed_over: PassedOver | str = ""
) -> Listing:
    """List photographs that are fetched one after the other."""
    arrivals = (arrive(workspace.state, one) for one in listed)
    return Listing(total, arrivals, passed_over=str(passed_over))


def at_once(
    listed: list[Listed], workspace: Workspace, passed_over: PassedOver | str = ""
) -> Listing:
    """List photographs of which `workspace.transfers` are fetched at the same time.

    One that arrives damaged is fetched again, a few times: a server in trouble may send an error
    page as if it were the image, or cut it off without a sign.
    """

    def arrivals() -> Iterator[Arrival]:
        # Threads of this pool don't outlive the process, whatever they are waiting for.
        with ThreadPool(workspace.transfers) as pool:
            yield from pool.imap(partial(arrive, workspace.state, tries=_TRIES), listed)

    return Listing(len(listed), arrivals(), passed_over=str(passed_over))


def arrive(state: Path, listed: Listed, tries: int = 1) -> Arrival:
    """Fetch a photograph to the state folder, unless it is there, until it passes the checks."""
    key = hashlib.sha256(f"{listed.name}\0{listed.version}".encode("utf-8", "surrogateescape"))
    path = state / key.hexdigest()[:32]
    part = path.with_suffix(".part")
    facts = (listed.image, listed.source, listed.licence)
    while True:
        tries -= 1
        try:
            if not path.exists():
                listed.fetch(part)
                part.rename(path)
            checked = check_file(path, listed.name, listed.sha256)
            return Arrival(Photograph(*facts, *checked), file=path)
        except PatchDMError as error:
            came = path.exists()
            path.unlink(missing_ok=True)
            if not (came and tries):
                return Arrival(Photograph(*facts, "", 0), str(error))
