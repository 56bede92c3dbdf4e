"""From photographs to a patch store: in processes, in bounded memory, resuming after a kill."""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from operator import attrgetter
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
from patchdm.formats.images import Pixels, read_views
from patchdm.formats.patch_store import PatchStore
from patchdm.formats.raw import open_photograph
from patchdm.formats.views import View, view_of
from patchdm.parallel import in_order

BATCH_BYTES = 2**22
"""Bounds the pixels that a worker returns at once, except for the views of one photograph."""


class Row(NamedTuple):
    """A row of the layout: an image to make."""

    number: int
    photograph: str
    """Its name in data/raw."""
    view: int
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
    views: int,
    view_scale: Sequence[float],
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
        views, view_scale: see `patchdm.formats.views.view_of`.
        state: folder of a killed run's progress, for this layout and these sizes only.
        workers: processes that decode; the store does not depend on it.
        report: called with the number of finished rows.

    Returns:
        The store, a folder in `state`; its tables of findings that are not empty -> summaries.

    Raises:
        PatchDMError: too many photographs are damaged, or all of a split; a worker was killed.
    """
    size, of_view = (width, height), partial(view_of, views=views, scales=view_scale)
    least_scale = view_scale[0] if views > 1 else 1.0
    work = partial(extract_rows, raw, size=size, of_view=of_view, least_scale=least_scale)
    photographs = int((layout["view"] == 0).sum())

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
                together = int(layout["view"].max()) + 1
                batch_rows = max(1, BATCH_BYTES // (width * height * 3 * together)) * together
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
        findings = write_findings(journal.store, layout, kept, lookalikes, journal.damaged, size)
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
    width, height = work.keywords["size"]
    return apply_moves(journal.moves, journal.store, kept, wanted.old, height, width)


def rows_of(layout: pd.DataFrame, start: int, stop: int) -> list[Row]:
    """Return rows start to stop - 1 of a layout, as far as it has them."""
    part = layout.iloc[start:stop]
    columns = (part[name].tolist() for name in ("source", "view", "original_sha256"))
    return list(map(Row, itertools.count(start), *columns))


def extract_rows(
    raw: Path,
    rows: list[Row],
    *,
    size: tuple[int, int],
    of_view: Callable[[str, int], View],
    least_scale: float,
) -> Batch:
    """Make the images of some rows, (width, height) each, in one decoding per photograph."""
    records = np.zeros(len(rows), RECORD)
    records["row"] = [row.number for row in rows]
    pixels = np.empty((len(rows), *size[::-1], 3), np.uint8)
    damaged = []
    place = 0
    for _, together in itertools.groupby(rows, attrgetter("photograph")):
        photograph = list(together)
        places = range(place, place := place + len(photograph))
        views = [of_view(row.sha256, row.view) for row in photograph]
        try:
            images, original = _decode(raw, photograph[0], *size, views, least_scale)
        except PatchDMError as error:
            if photograph[0].view == 0:  # otherwise the batch before says it
                damaged.append(Damaged(photograph[0].number, photograph[0].photograph, str(error)))
            continue
        for at, row, view, image in zip(places, photograph, views, images, strict=True):
            pixels[at] = image
            _describe(records[at], pixels[at], view, original, size)
            if row.view == 0:
                records[at]["thumbnail"] = thumbnail(pixels[at])
    kept = records["kept"]
    return Batch(records, pixels if kept.all() else pixels[kept], damaged)


def _describe(
    record: np.void, image: Pixels, view: View, original: tuple[int, int], size: tuple[int, int]
) -> None:
    """Fill in what is known of an image."""
    record["kept"], record["flipped"] = True, view.mirrored
    record["mean"], record["sha256"] = describe(image)
    record["perceptual_hash"] = difference_hash(image)
    record["original_width"], record["original_height"] = original
    record["left"], record["top"], record["right"], record["bottom"] = view.box(original, size)


def _decode(
    raw: Path, row: Row, width: int, height: int, views: list[View], least_scale: float
) -> tuple[list[Pixels], tuple[int, int]]:
    """Return views of a photograph, and its own size.

    Raises:
        PatchDMError: it is damaged, or another file than it was.
    """
    name = str(raw / row.photograph)
    with open_photograph(raw, row.photograph) as file:
        content = file.read()
    if (found := hashlib.sha256(content).hexdigest()) != row.sha256:
        raise PatchDMError(f"{name}: found sha256 {found}, the manifest has {row.sha256}")
    return read_views(io.BytesIO(content), width, height, views, least_scale=least_scale, name=name)
