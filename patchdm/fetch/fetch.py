"""From a source to data/raw: photographs, manifest, and what became of each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import pyarrow as pa
import pyarrow.parquet as pq

from patchdm.errors import PatchDMError
from patchdm.fetch.names import Names, shown
from patchdm.fetch.sources.listing import Listing
from patchdm.files import link_or_copy
from patchdm.formats.raw import MANIFEST, OUTCOMES, Photograph

_ROWS = 2**15
_TEXT = ("image", "source", "licence", "sha256", "outcome")


class _Row(NamedTuple):
    image: str
    source: str
    outcome: str


def fetch(
    listing: Listing, raw: Path, *, damaged_fraction: float, report: Callable[[int], None]
) -> int:
    """Write the photographs of a source, the manifest and the outcomes to a folder.

    Args:
        listing: what the source lists.
        raw: the folder, which is created.
        damaged_fraction: share of the photographs that may be left out.
        report: called with the number that are done.

    Returns:
        How many were left out.

    Raises:
        PatchDMError: too many are missing or damaged, or all are.
    """
    raw.mkdir()
    names = Names()
    for name, file in listing.others.items():
        _place(file, raw / name)

    def put(file: Path, name: str) -> str | None:
        if reason := names.refuse(name):
            return reason
        _place(file, raw / name)
        return None

    there = left_out = 0
    allowed = int(damaged_fraction * listing.total)
    with (
        _Table(raw / MANIFEST, Photograph) as manifest,
        _Table(raw / OUTCOMES, _Row) as outcomes,
    ):
        for image, source, photograph, reason in listing.arrive(put):
            if photograph:
                there += 1
                manifest.add(photograph)
            else:
                left_out += 1
                if left_out > allowed:
                    raise _too_many(_text(reason), left_out, listing.total, allowed)
            plain = image if photograph else shown(image).strip("'\"")
            outcomes.add(_Row(plain, _text(source), _text(reason)))
            report(there + left_out)
    if not there:
        raise PatchDMError(f"data.location: found no photograph in {listing.total} files")
    return left_out


def _too_many(reason: str, left_out: int, total: int, allowed: int) -> PatchDMError:
    if not allowed:
        return PatchDMError(reason)
    return PatchDMError(
        f"{reason} (number {left_out} of {total} photographs that is missing or damaged, "
        f"data.damaged_fraction allows {allowed})"
    )


def _place(file: Path, target: Path) -> None:
    """Give a file a second name, in a folder that need not be there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    link_or_copy(file, target)


def _text(text: str) -> str:
    """Return a text as one printable line that is not endless, whatever a server had it say."""
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text.split()))
    return line if len(line) <= 400 else f"{line[:200]}...{line[-197:]}"


class _Table:
    """A parquet file written piece by piece: three million rows don't fit in Python's objects."""

    def __init__(self, path: Path, row: type[Photograph | _Row]) -> None:
        kinds = {name: pa.string() if name in _TEXT else pa.int64() for name in row._fields}
        self._schema = pa.schema(kinds)
        self._path, self._rows = path, list[NamedTuple]()

    def __enter__(self) -> Self:
        self._writer = pq.ParquetWriter(
            self._path, self._schema, compression="zstd", write_page_checksum=True
        )
        return self

    def add(self, row: NamedTuple) -> None:
        self._rows.append(row)
        if len(self._rows) == _ROWS:
            self._flush()

    def _flush(self) -> None:
        columns = zip(*self._rows, strict=True) if self._rows else [[] for _ in self._schema]
        self._writer.write_table(pa.table(list(map(list, columns)), schema=self._schema))
        self._rows.clear()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self._flush()
        self._writer.close()
