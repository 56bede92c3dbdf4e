"""The paper's numbers, as paper.csv holds them, and what a metric is measured by."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from patchdm.config import Data
from patchdm.errors import PatchDMError


class Source(NamedTuple):
    """A feature extractor and a number of images; those of different ones share no column."""

    extractor: str
    n: int

    def __str__(self) -> str:
        """Return what titles say of it."""
        return f"{self.extractor}, n = {self.n:,}"


def one_source(sources: Iterable[Source], column: str) -> Source:
    """Return the source of a column's numbers.

    Raises:
        PatchDMError: they have more than one.
    """
    found = sorted(set(sources))
    if len(found) != 1:
        raise PatchDMError(
            f"column {column}: found numbers of {' and of '.join(map(str, found))}, expected "
            "one extractor and one n"
        )
    return found[0]


@dataclass(frozen=True)
class Number:
    """A number of the paper, or of those it compares with."""

    data: str  # preset of the data set, or empty
    size: str  # WIDTHxHEIGHT, or empty
    model: str  # or the variant of Patch-DM
    quantity: str
    value: float | None  # None: nobody has told
    source: Source | None  # what a metric is measured by; None for what is counted
    tag: str  # where the value comes from, explained in paper.csv
    note: str  # a word more

    def quote(self, decimals: int = 0) -> str:
        """Write it with where it comes from: `71.40 counted`, `128 [C], 32 a GPU`."""
        tag = {"": "", "counted": " counted"}.get(self.tag, f" [{self.tag}]")
        value = "" if self.value is None else f"{self.value:,.{decimals}f}{tag}"
        return ", ".join(filter(None, [value, self.note]))


@cache
def paper_numbers(table: str) -> list[Number]:
    """Return the numbers of a table: quality, ablation, parameters, resolution or run."""
    text = files("patchdm.report.tables").joinpath("paper.csv").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return [
        Number(
            **{key: row[key] for key in ("data", "size", "model", "quantity", "tag", "note")},
            value=float(row["value"]) if row["value"] else None,
            source=Source(row["extractor"], int(row["n"])) if row["extractor"] else None,
        )
        for row in csv.DictReader(lines)
        if row["table"] == table
    ]


def data_set(data: Data) -> str:
    """Return the name of a data set, as the paper's numbers have it.

    `ffhq` is ffhq256 at that width, `church_outdoor_train_lmdb.zip` is lsun-church256.
    """
    source = Path(data.location)
    match data.source:
        case "folder":
            return f"{source.name}{data.width}"
        case "lsun":
            return f"lsun-{source.name.partition('_')[0]}{data.width}"
        case _:
            return source.stem


def in_paper(name: str) -> bool:
    """Say whether a data set is one of the paper's."""
    return name in {number.data for number in paper_numbers("run") if number.data}
