"""From a source to data/raw: photographs, manifest, and the outcome of each photograph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from patchdm.errors import PatchDMError
from patchdm.fetch.names import Names, shown
from patchdm.fetch.sources.listing import Listing
from patchdm.files import link_or_copy
from patchdm.formats.raw import MANIFEST, OUTCOMES, Photograph

_ROWS = 2**15


def fetch(
    listing: Listing, raw: Path, *, damaged_fraction: float, report: Callable[[int], None]
) -> int:
    """Write the photographs of a source, the manifest and the outcomes to the new folder `raw`.

    Args:
        damaged_fraction: share of the photographs that may be left out.
        report: called with the number that are done.

    Returns:
        How many were left out.

    Raises:
        PatchDMError: too many are missing or damaged, or all are.
    """
    raw.mkdir()
    names = Names()
    for name, other in listing.others.items():
        _place(other, raw / name)
    there = left_out = 0
    allowed = int(damaged_fraction * listing.total)
    with (
        _table(raw / MANIFEST, Photograph._fields) as add_photograph,
        _table(raw / OUTCOMES, ("image", "source", "outcome")) as add_outcome,
    ):
        for photograph, refused, file in listing.arrivals:
            image = photograph.image
            if reason := refused or (names.refuse(image) if file else None):
                left_out += 1
                if left_out > allowed:
                    counts = f" (number {left_out} of {listing.total} photographs that is missing"
                    counts += f" or damaged, data.damaged_fraction allows {allowed})"
                    raise PatchDMError(_text(reason) + (counts if allowed else ""))
                image = shown(image).strip("'\"")
            else:
                there += 1
                if file:
                    _place(file, raw / image)
                add_photograph(photograph)
            add_outcome((image, _text(photograph.source), _text(reason or "ok")))
            report(there + left_out)
    if not there:
        raise PatchDMError(f"data.location: found no photograph in {listing.total} files")
    return left_out


def _place(file: Path, target: Path) -> None:
    """Give a file a second name, in a folder that may not exist yet."""
    target.parent.mkdir(parents=True, exist_ok=True)
    link_or_copy(file, target)


def _text(text: str) -> str:
    """Return a text, perhaps of a server, as one printable line of limited length."""
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text.split()))
    return line if len(line) <= 400 else f"{line[:200]}...{line[-197:]}"


@contextmanager
def _table(path: Path, columns: Sequence[str]) -> Iterator[Callable[[tuple[str | int, ...]], None]]:
    """Write a parquet file piece by piece, since millions of rows do not fit in Python's objects.

    Yields the function that adds a row.
    """
    schema = pa.schema({name: pa.int64() if name == "bytes" else pa.string() for name in columns})
    rows = list[tuple[str | int, ...]]()

    def flush() -> None:
        values = zip(*rows, strict=True) if rows else [[] for _ in columns]
        writer.write_table(pa.table(list(map(list, values)), schema=schema))
        rows.clear()

    def add(row: tuple[str | int, ...]) -> None:
        rows.append(row)
        if len(rows) == _ROWS:
            flush()

    with pq.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True) as writer:
        yield add
        flush()
