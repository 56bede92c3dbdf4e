"""What a source yields: how many photographs it lists, and each of them as it arrives."""

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
from patchdm.fetch.arrival import check_file
from patchdm.fetch.names import PassedOver
from patchdm.formats.raw import Photograph

Progress = Callable[[str, int, str], AbstractContextManager[Callable[[int], None]]]
"""Shows how far something is: called with its name, total and unit."""

_TRIES = 4


@dataclass(frozen=True)
class Place:
    """Where and how files are brought."""

    root: Path
    """What relative locations are relative to."""
    state: Path
    """Folder where the files of a killed download are found again."""
    transfers: int
    """Files transferred at the same time."""
    progress: Progress


class Outcome(NamedTuple):
    """What became of a photograph that a source lists."""

    image: str
    source: str
    photograph: Photograph | None
    """None: it is left out."""
    reason: str
    """Why it is left out; "ok" if it is not."""


class Item(NamedTuple):
    """A photograph that can be brought."""

    name: str
    """Where it should go: a path below data/raw, not yet trusted."""
    origin: str
    """Where it comes from, for error messages."""
    source: str
    """Column `source` of the manifest."""
    bring: Callable[[Path], None]
    """Brings it to a file, where it may find the part that an earlier call brought."""
    version: str
    """Differs when the content does: what a killed download brought of another is not used."""
    licence: str = "unknown"
    sha256: str | None = None
    """What its SHA-256 must be, where that is known."""


class Arrival(NamedTuple):
    """A checked file in the state folder, or why there is none."""

    path: Path
    sha256: str
    bytes: int
    refused: str | None = None


@dataclass(frozen=True)
class Listing:
    """What a source lists; a context manager around it keeps its files open."""

    total: int
    """How many photographs."""
    arrive: Callable[[Callable[[Path, str], str | None]], Iterator[Outcome]]
    """Brings them, in the source's order. It is called with what puts a file in its place by its
    name and says why not, if the name is refused."""
    others: Mapping[str, Path] = field(default_factory=dict)
    """Files that hold the photographs, by their names below data/raw."""
    passed_over: str = ""
    """Which files of the source are not taken, in a line; empty: all are."""


def read_csv(path: Path) -> list[list[str]]:
    """Read a CSV file in UTF-8: its header and its rows, of which none has a surplus cell.

    Raises:
        PatchDMError: it cannot be read, or a row is longer than the header, so that a cell may
            stand in the wrong column.
    """
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
    items: Iterable[Item], total: int, place: Place, passed_over: PassedOver | None = None
) -> Listing:
    """List items that are to be brought in their order, each before the next one."""
    arrive = partial(_outcomes, items, place, None)
    return Listing(total, arrive, passed_over=str(passed_over or ""))


def at_once(items: list[Item], place: Place, passed_over: PassedOver | None = None) -> Listing:
    """List items of which `place.transfers` are brought at the same time.

    What arrives damaged is brought again, a few times: a server in trouble may send an error page
    as if it were the image, or cut it off without a sign.
    """
    arrive = partial(_outcomes, items, place, place.transfers)
    return Listing(len(items), arrive, passed_over=str(passed_over or ""))


def _outcomes(
    items: Iterable[Item],
    place: Place,
    transfers: int | None,
    put: Callable[[Path, str], str | None],
) -> Iterator[Outcome]:
    place.state.mkdir(exist_ok=True)
    if transfers is None:
        for item in items:
            yield _placed(item, bring(place.state, item), put)
        return
    items = list(items)
    # Threads of this pool don't outlive the process, whatever they are waiting for.
    with ThreadPool(transfers) as pool:
        arrivals = pool.imap(partial(bring, place.state, tries=_TRIES), items)
        for item, arrival in zip(items, arrivals, strict=True):
            yield _placed(item, arrival, put)


def bring(state: Path, item: Item, tries: int = 1) -> Arrival:
    """Bring an item to the state folder, if it isn't there, and check it.

    Args:
        state: the folder, which exists.
        item: what is brought.
        tries: how often it is brought until it passes the checks.
    """
    key = hashlib.sha256(f"{item.origin}\0{item.version}".encode("utf-8", "surrogateescape"))
    path = state / key.hexdigest()[:32]
    part = path.with_suffix(".part")
    while True:
        tries -= 1
        try:
            if not path.exists():
                item.bring(part)
                part.rename(path)
            return Arrival(path, *check_file(path, item.origin, item.sha256))
        except PatchDMError as error:
            came = path.exists()
            path.unlink(missing_ok=True)
            if not (came and tries):
                return Arrival(path, "", 0, str(error))


def _placed(item: Item, arrival: Arrival, put: Callable[[Path, str], str | None]) -> Outcome:
    reason = arrival.refused or put(arrival.path, item.name)
    if reason:
        return Outcome(item.name, item.source, None, reason)
    facts = (item.source, item.licence, arrival.sha256, arrival.bytes)
    return Outcome(item.name, item.source, Photograph(item.name, *facts), "ok")
