"""From photographs to a patch store: in processes, in bounded memory, resuming after a kill."""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from patchdm.errors import PatchDMError
from patchdm.extract.duplicates import difference_hash, thumbnail
from patchdm.extract.findings import find_lookalikes, write_findings
from patchdm.extract.journal import Damaged, Journal
from patchdm.extract.moves import apply_moves, write_moves
from patchdm.extract.splits import Regrouped, regroup
from patchdm.extract.store_writer import (
    RECORD,
    Records,
    ShardWriter,
    describe,
    without_thumbnails,
    write_index,
)
from patchdm.formats.images import Pixels, read_fitted
from patchdm.formats.patch_store import PatchStore
from patchdm.formats.raw import open_photograph
from patchdm.parallel import in_order

BATCH_BYTES = 2**22
"""Bounds the pixels that a worker returns at once, except for one image and its mirror image."""


class Row(NamedTuple):
    """A row of the layout: an image to make."""

    number: int
    photograph: str
    """Its name in data/raw."""
    flipped: bool
    sha256: str
    """Of the photograph's file."""


class Batch(NamedTuple):
    """The images made of some consecutive rows."""

    records: Records
    pixels: Pixels
    damaged: list[Damaged]


def extract(
    raw: Path,
    layout: pd.DataFrame,
    state: Path,
    *,
    width: int,
    height: int,
    test_fraction: float,
    damaged_fraction: float,
    workers: int,
    report: Callable[[int], None],
) -> tuple[Path, dict[str, str]]:
    """Make the images of a layout; damaged photographs are left out and listed.

    Photographs that look alike are known at the end. If the layout splits a group of them, the few
    images concerned change their places in the store.

    Args:
        layout: see `patchdm.extract.splits.lay_out`. A photograph that is left out moves no other
            from one split to the other.
        state: folder of a killed run's progress, for this layout and these sizes only.
        workers: processes that decode; the store does not depend on it.
        report: called with the number of finished rows.

    Returns:
        The store, a folder in `state`; its tables of findings that are not empty -> summaries.

    Raises:
        PatchDMError: too many photographs are damaged, or all of a split; a worker was killed.
    """
    work = partial(extract_rows, raw, width=width, height=height)
    photographs = len(layout) - int(layout["flipped"].sum())

    def check() -> None:
        if len(journal.damaged) > damaged_fraction * photographs:
            raise PatchDMError(
                f"{raw}: found {len(journal.damaged)} damaged of {photographs} photographs, "
                f"expected data.damaged_fraction = {damaged_fraction:g} of them; the first: "
                f"{journal.damaged[0].reason}"
            )

    with closing(Journal(state)) as journal:
        if any(
            work(rows_of(layout, one.row, one.row + 1)).damaged != [one] for one in journal.damaged
        ):
            journal.clear()  # repaired since
        check()
        report(journal.done)
        if not journal.moves.exists():
            count = int(journal.records()["kept"].sum())
            with closing(ShardWriter(journal.store, height, width, count)) as writer:
                batch_rows = max(2, BATCH_BYTES // (width * height * 3))
                starts = range(journal.done, len(layout), batch_rows)
                batches = (rows_of(layout, start, start + batch_rows) for start in starts)
                for batch in in_order(work, batches, workers):
                    writer.append(batch.pixels)
                    journal.append(batch.records, batch.damaged)
                    check()
                    report(journal.done)
                writer.finish()
        every = journal.records()
        lookalikes = find_lookalikes(layout, every)
        regrouped = None
        if lookalikes.crossed:
            regrouped = regroup(layout, every["kept"], lookalikes.group, test_fraction)
        kept = without_thumbnails(every, every["kept"])
        if regrouped:
            layout, kept = regrouped.layout, _regrouped(journal, layout, kept, regrouped, work)
        lost = {"train", "test"} - set(layout["split"].iloc[kept["row"]].unique())
        if lost:
            raise PatchDMError(f"{raw}: every {lost.pop()} photograph is damaged")
        write_index(journal.store, layout, kept)
        findings = write_findings(
            journal.store, layout, kept, lookalikes, journal.damaged, (width, height)
        )
    return journal.store, findings


def _regrouped(
    journal: Journal, layout: pd.DataFrame, kept: Records, wanted: Regrouped, work: partial[Batch]
) -> Records:
    """Change the places of a store's images as wanted; return the records of all of them."""

    def make(place: int) -> tuple[Pixels, Records]:
        batch = work(rows_of(wanted.layout, place, place + 1))
        if not batch.records["kept"].all():
            photograph = wanted.layout["source"].iloc[place]
            raise PatchDMError(f"{photograph}: damaged since it was extracted, run the stage again")
        return batch.pixels, without_thumbnails(batch.records, batch.records["kept"])

    if not journal.moves.exists():
        write_index(journal.store, layout, kept)  # which makes it a store that can be read
        write_moves(journal.moves, PatchStore(journal.store), kept, wanted.old, make)
    return apply_moves(journal.moves, journal.store, kept, wanted.old, **work.keywords)


def rows_of(layout: pd.DataFrame, start: int, stop: int) -> list[Row]:
    """Return rows start to stop - 1 of a layout, as far as it has them."""
    part = layout.iloc[start:stop]
    columns = (part[name].tolist() for name in ("source", "flipped", "original_sha256"))
    return list(map(Row, itertools.count(start), *columns))


def extract_rows(raw: Path, rows: list[Row], *, width: int, height: int) -> Batch:
    """Make the images of some rows. A mirror image follows its original: one decoding for both."""
    records = np.zeros(len(rows), RECORD)
    pixels = np.empty((len(rows), height, width, 3), np.uint8)
    damaged = []
    decoded: tuple[Pixels, tuple[int, int]] | PatchDMError | None = None
    for record, image, row in zip(records, pixels, rows, strict=True):
        record["row"] = row.number
        if not row.flipped or decoded is None:  # None: the original is in the batch before
            decoded = _decode(raw, row, width, height)
        if isinstance(decoded, PatchDMError):
            if not row.flipped:
                damaged.append(Damaged(row.number, row.photograph, str(decoded)))
            continue
        original, (record["original_width"], record["original_height"]) = decoded
        image[:] = original[:, ::-1] if row.flipped else original
        record["kept"] = True
        record["mean"], record["sha256"] = describe(image)
        record["perceptual_hash"] = difference_hash(image)
        if not row.flipped:
            record["thumbnail"] = thumbnail(image)
    kept = records["kept"]
    return Batch(records, pixels if kept.all() else pixels[kept], damaged)


def _decode(
    raw: Path, row: Row, width: int, height: int
) -> tuple[Pixels, tuple[int, int]] | PatchDMError:
    """Return a photograph's training image and its own size, or what is wrong with it."""
    name = str(raw / row.photograph)
    try:
        with open_photograph(raw, row.photograph) as file:
            content = file.read()
        found = hashlib.sha256(content).hexdigest()
        if found != row.sha256:
            return PatchDMError(f"{name}: found sha256 {found}, the manifest has {row.sha256}")
        return read_fitted(io.BytesIO(content), width, height, name=name)
    except PatchDMError as error:
        return error
