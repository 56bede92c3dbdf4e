"""LSUN as its authors publish it: an LMDB of encoded images, in a zip archive."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path, PurePosixPath

from patchdm.config.data import Data
from patchdm.data.archives import DAMAGES
from patchdm.data.arrival import CHUNK, MAX_BYTES, check_image
from patchdm.data.raw import LMDB, Photograph, environment, name_of_key
from patchdm.data.sources.archive import local_file
from patchdm.data.sources.listing import Listing, Outcome, Place
from patchdm.data.transfer import is_address
from patchdm.errors import PatchDMError

_BATCH = 1024
_Row = tuple[str, str, int, str]
"""Name, SHA-256, bytes, and what is wrong with it ("ok": nothing)."""


@contextmanager
def lsun(data: Data, place: Place) -> Iterator[Listing]:
    """Yield the images of an LMDB: a folder with data.mdb, or the zip of one, here or elsewhere.

    Raises:
        PatchDMError: it cannot be had, is not the pinned one, or damaged.
    """
    place.state.mkdir(exist_ok=True)
    database = place.state / LMDB / "data.mdb"
    if not database.exists():
        _bring(data, place, database)
    total = environment(database.parent).stat()["entries"]
    shown = data.location if is_address(data.location) else PurePosixPath(data.location).name
    yield Listing(total, partial(_outcomes, database, shown))


def _bring(data: Data, place: Place, database: Path) -> None:
    """Copy or unpack data.mdb."""
    part = place.state / "data.mdb.part"
    folder = place.root / data.location
    if not is_address(data.location) and folder.is_dir():
        if not (folder / "data.mdb").is_file():
            raise PatchDMError(f"{data.location}: found no data.mdb, an LMDB has one")
        shutil.copyfile(folder / "data.mdb", part)
    else:
        file = local_file(data, place)
        _unpack(file, part, data.location)
        if place.state in file.parents:
            file.unlink()  # tens of gigabytes
    database.parent.mkdir(exist_ok=True)
    part.rename(database)


def _unpack(file: Path, part: Path, name: str) -> None:
    """Write the one data.mdb of an archive to a file; an LMDB may be mostly empty pages."""
    try:
        with zipfile.ZipFile(file) as archive:
            inside = [m for m in archive.infolist() if PurePosixPath(m.filename).name == "data.mdb"]
            if len(inside) != 1:
                raise PatchDMError(f"{name}: found {len(inside)} data.mdb inside, allowed is one")
            if inside[0].file_size > 100 * file.stat().st_size + 2**24:
                raise PatchDMError(f"{name}: found a data.mdb of more than 100 times its size")
            with archive.open(inside[0]) as source, part.open("wb") as target:
                shutil.copyfileobj(source, target, CHUNK)
    except DAMAGES as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise PatchDMError(f"{name}: no readable zip archive: {error}") from None


def _outcomes(
    database: Path, source: str, put: Callable[[Path, str], str | None]
) -> Iterator[Outcome]:
    put(database, f"{LMDB}/data.mdb")
    for image, sha256, size, reason in _scan_apart(database.parent):
        photograph = Photograph(image, source, "unknown", sha256, size) if reason == "ok" else None
        yield Outcome(image, source, photograph, reason)


def _scan_apart(folder: Path) -> Iterator[_Row]:
    """Check every image of an LMDB in a process of its own, which a damaged one may end.

    Raises:
        PatchDMError: it did.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_scan, args=(str(folder), there), daemon=True)
    process.start()
    there.close()  # so that its end is noticed
    try:
        while batch := here.recv():
            yield from batch
    except EOFError:
        process.join()
        raise PatchDMError(f"{folder / 'data.mdb'}: damaged LMDB, it cannot be read") from None
    finally:
        here.close()  # what ends a scan nobody waits for
        process.join()


def _scan(folder: str, there: Connection) -> None:
    """Send the rows of an LMDB in pieces, and an empty one at the end."""
    with suppress(BrokenPipeError):
        rows: list[_Row] = []
        with environment(Path(folder)).begin(buffers=True) as transaction:
            for key, value in transaction.cursor():
                rows.append(_row(name_of_key(bytes(key)), value))
                if len(rows) == _BATCH:
                    there.send(rows)
                    rows = []
        if rows:
            there.send(rows)
        there.send([])


def _row(name: str, value: memoryview) -> _Row:
    reason = "ok"
    if len(value) > MAX_BYTES:
        reason = f"{name}: found {len(value)} bytes, the limit is {MAX_BYTES}"
    else:
        content = bytes(value)
        try:
            check_image(io.BytesIO(content), content, name)
        except PatchDMError as error:
            reason = str(error)
    return name, hashlib.sha256(value).hexdigest(), len(value), reason
