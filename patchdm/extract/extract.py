"""From photographs to a patch store: in processes, in bounded memory, going on after a kill."""

from __future__ import annotations

import hashlib
import io
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
"""Bounds the pixels that a worker hands over at once, an image and its mirror image aside."""


class Rows(NamedTuple):
    """Some consecutive rows of the plan."""

    first: int
    sources: list[str]
    flipped: list[bool]
    sha256: list[str]


class Batch(NamedTuple):
    """What became of them."""

    records: Records
    pixels: Pixels
    damaged: list[Damaged]


def extract(
    raw: Path,
    plan: pd.DataFrame,
    state: Path,
    *,
    width: int,
    height: int,
    test_fraction: float,
    damaged_fraction: float,
    workers: int,
    report: Callable[[int], None],
) -> tuple[Path, dict[str, str]]:
    """Make the images of a plan; photographs that are damaged are left out and listed.

    Which photographs look alike is known at the end. Where the plan parts some, the few images
    concerned change their places in the store.

    Args:
        raw: data/raw.
        plan: see `patchdm.extract.splits.plan_images`. A photograph that is left out moves no other
            from one split to the other.
        state: folder where a killed run finds its progress, of this plan and these sizes alone.
        width, height: size of the images.
        test_fraction: share of the photographs that is held out.
        damaged_fraction: share of the photographs that may be damaged.
        workers: processes that decode; the store does not depend on it.
        report: called with the number of rows of the plan that are done.

    Returns:
        A folder in `state`, the store; its tables of findings that are not empty, and what they
        hold.

    Raises:
        PatchDMError: too many photographs are damaged, or all of a split; a worker was killed.
    """
    work = partial(extract_rows, raw, width=width, height=height)
    photographs = len(plan) - int(plan["flipped"].sum())

    def check() -> None:
        if len(journal.damaged) > damaged_fraction * photographs:
            raise PatchDMError(
                f"{raw}: found {len(journal.damaged)} damaged of {photographs} photographs, "
                f"expected data.damaged_fraction = {damaged_fraction:g} of them; the first: "
                f"{journal.damaged[0].reason}"
            )

    with closing(Journal(state)) as journal:
        if any(
            work(rows_of(plan, one.row, one.row + 1)).damaged != [one] for one in journal.damaged
        ):
            journal.clear()  # mended since
        check()
        report(journal.done)
        if not journal.moves.exists():
            count = int(journal.records()["kept"].sum())
            with closing(ShardWriter(journal.store, height, width, count)) as writer:
                batch_rows = max(2, BATCH_BYTES // (width * height * 3))
                starts = range(journal.done, len(plan), batch_rows)
                items = (rows_of(plan, start, start + batch_rows) for start in starts)
                for batch in in_order(work, items, workers):
                    writer.append(batch.pixels)
                    journal.append(batch.records, batch.damaged)
                    check()
                    report(journal.done)
                writer.finish()
        every = journal.records()
        lookalikes = find_lookalikes(plan, every)
        regrouped = None
        if lookalikes.crossed:
            regrouped = regroup(plan, every["kept"], lookalikes.group, test_fraction)
        kept = without_thumbnails(every, every["kept"])
        if regrouped:
            plan, kept = regrouped.plan, _regrouped(journal, plan, kept, regrouped, work)
        lost = {"train", "test"} - set(plan["split"].iloc[kept["row"]].unique())
        if lost:
            raise PatchDMError(f"{raw}: every {lost.pop()} photograph is damaged")
        write_index(journal.store, plan, kept)
        findings = write_findings(
            journal.store, plan, kept, lookalikes, journal.damaged, (width, height)
        )
    return journal.store, findings


def _regrouped(
    journal: Journal,
    plan: pd.DataFrame,
    kept: Records,
    wanted: Regrouped,
    work: partial[Batch],
) -> Records:
    """Change the places of a store's images as wanted; return the records of all of them."""

    def make(place: int) -> tuple[Pixels, Records]:
        batch = work(rows_of(wanted.plan, place, place + 1))
        if not batch.records["kept"].all():
            source = wanted.plan["source"].iloc[place]
            raise PatchDMError(f"{source}: damaged since it was extracted, run the stage again")
        return batch.pixels, without_thumbnails(batch.records, batch.records["kept"])

    if not journal.moves.exists():
        write_index(journal.store, plan, kept)  # which makes it a store that can be read
        write_moves(journal.moves, PatchStore(journal.store), kept, wanted.old, make)
    return apply_moves(journal.moves, journal.store, kept, wanted.old, **work.keywords)


def rows_of(plan: pd.DataFrame, start: int, stop: int) -> Rows:
    """Return some rows of a plan."""
    part = plan.iloc[start:stop]
    columns = (part[name].tolist() for name in ("source", "flipped", "original_sha256"))
    return Rows(start, *columns)


def extract_rows(raw: Path, rows: Rows, *, width: int, height: int) -> Batch:
    """Make the images of some rows. A mirror image follows its original: one decoding for both."""
    count = len(rows.sources)
    records = np.zeros(count, RECORD)
    pixels = np.empty((count, height, width, 3), np.uint8)
    damaged = []
    decoded: _Decoded | PatchDMError | None = None
    for place, (source, flipped, sha256) in enumerate(zip(*rows[1:], strict=True)):
        record = records[place]
        record["row"] = rows.first + place
        if not flipped or decoded is None:  # None: the original is in the batch before
            decoded = _decode(raw, source, sha256, width, height)
        if isinstance(decoded, PatchDMError):
            if not flipped:
                damaged.append(Damaged(rows.first + place, source, str(decoded)))
            continue
        pixels[place] = decoded.image[:, ::-1] if flipped else decoded.image
        record["kept"] = True
        record["mean"], record["sha256"] = describe(pixels[place])
        record["original_width"], record["original_height"] = decoded.size
        record["perceptual_hash"] = difference_hash(pixels[place])
        if not flipped:
            record["thumbnail"] = thumbnail(pixels[place])
    kept = records["kept"]
    return Batch(records, pixels if kept.all() else pixels[kept], damaged)


class _Decoded(NamedTuple):
    image: Pixels
    size: tuple[int, int]


def _decode(
    raw: Path, source: str, sha256: str, width: int, height: int
) -> _Decoded | PatchDMError:
    """Return a photograph's training image, or what is wrong with it."""
    try:
        with open_photograph(raw, source) as file:
            content = file.read()
        found = hashlib.sha256(content).hexdigest()
        if found != sha256:
            return PatchDMError(f"{raw / source}: found sha256 {found}, the manifest has {sha256}")
        return _Decoded(*read_fitted(io.BytesIO(content), width, height, name=str(raw / source)))
    except PatchDMError as error:
        return error
