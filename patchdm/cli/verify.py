"""Checking data/raw and data/patches byte by byte against the hashes that they carry."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from patchdm.errors import PatchDMError, one_line
from patchdm.extract.findings import CHECKSUMS
from patchdm.extract.store_writer import shard_header
from patchdm.files import sha256
from patchdm.formats.patch_store import INDEX, PatchStore
from patchdm.formats.raw import MANIFEST, open_photograph

_BATCH = 1024


class Verdict(NamedTuple):
    """What came of a check."""

    checked: int  # photographs or images
    flaws: int  # of them and of the files next to them: missing, or of other bytes
    first: str | None  # what is wrong with the first one, beginning with the name of its file


def verify(folder: Path, start: Callable[[int], Callable[[int], None]]) -> Verdict:
    """Check every photograph of a data/raw, or every image and table of a data/patches.

    `start` is called with the number of photographs or images; what it returns with how many are
    done.

    Raises:
        PatchDMError: it is neither, or the table of its hashes cannot be read.
    """
    if (folder / INDEX).is_file():
        table, flaws_of = folder / INDEX, _store_flaws
    elif (folder / MANIFEST).is_file():
        table, flaws_of = folder / MANIFEST, _raw_flaws
    else:
        raise PatchDMError(
            f"{folder}: found neither {MANIFEST} nor {INDEX}, expected data/raw and "
            "data/patches of a run"
        )
    try:
        with pq.ParquetFile(table, page_checksum_verification=True) as file:
            report = start(file.metadata.num_rows)
            done, flaws, first = 0, 0, None
            for flaw in flaws_of(folder, file):
                if flaw is None:
                    done += 1
                    report(done)
                else:
                    flaws += 1
                    first = first or flaw
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise PatchDMError(f"{table}: damaged: {one_line(error)}") from None
    return Verdict(done, flaws, first)


def _raw_flaws(folder: Path, table: pq.ParquetFile) -> Iterator[str | None]:
    """Yield what is wrong with photographs, and None after each of them."""
    for image, expected in _rows(table, "image", "sha256"):
        try:
            with open_photograph(folder, image) as file:
                found = hashlib.sha256(file.read()).hexdigest()
            if found != expected:
                yield f"{folder / image}: found sha256 {found}, {MANIFEST} has {expected}"
        except PatchDMError as error:
            yield str(error)
        yield None


def _store_flaws(folder: Path, table: pq.ParquetFile) -> Iterator[str | None]:
    """Yield what is wrong with tables, shards and images, and None after each image."""
    yield from _table_flaws(folder)
    store = PatchStore(folder)
    for path, shape in store.shards():
        header = shard_header(shape)
        with path.open("rb") as file:
            if file.read(len(header)) != header:
                yield f"{path}: the header differs"
    for row, (source, expected) in enumerate(_rows(table, "source", "sha256")):
        found = hashlib.sha256(store.images([row]).data).hexdigest()
        if found != expected:
            yield (
                f"{store.shard_of(row)}: image {row}, of {source}: found sha256 {found}, "
                f"{INDEX} has {expected}"
            )
        yield None


def _table_flaws(folder: Path) -> Iterator[str]:
    """Yield which files differ from CHECKSUMS."""
    try:
        lines = (folder / CHECKSUMS).read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        yield f"{folder / CHECKSUMS}: cannot be read"
        return
    expected = dict(line.split("  ", 1)[::-1] for line in lines if "  " in line)
    tables = {path.name for path in folder.iterdir()} - {CHECKSUMS}
    tables -= {path.name for path in folder.glob("images-*.npy")}
    for name in sorted(tables | expected.keys()):
        path = folder / name
        if not path.is_file():
            yield f"{path}: not found, {CHECKSUMS} has it"
        elif (found := sha256(path)) != expected.get(name):
            yield f"{path}: found sha256 {found}, {CHECKSUMS} has {expected.get(name, 'none')}"


def _rows(table: pq.ParquetFile, *names: str) -> Iterator[tuple[str, ...]]:
    """Yield some columns row by row, few of them in memory."""
    batches = table.iter_batches(_BATCH, columns=list(names))
    rows = (zip(*(batch[name].to_pylist() for name in names), strict=True) for batch in batches)
    return itertools.chain.from_iterable(rows)
