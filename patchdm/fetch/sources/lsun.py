"""LSUN as its authors publish it: an LMDB of encoded images, in a zip archive."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath

from patchdm.config.data import Data, is_address
from patchdm.errors import PatchDMError
from patchdm.fetch.archives import DAMAGES
from patchdm.fetch.arrival import CHUNK
from patchdm.fetch.scan import scan
from patchdm.fetch.sources.archive import dropped_if_bad, local_file
from patchdm.fetch.sources.listing import Listing, Outcome, Place
from patchdm.formats.raw import LMDB, Photograph, environment


@contextmanager
def open_lsun(data: Data, place: Place) -> Iterator[Listing]:
    """Yield the images of an LMDB: a folder with data.mdb, or the zip of one, here or elsewhere.

    Raises:
        PatchDMError: it cannot be had, is not the pinned one, or damaged.
    """
    place.state.mkdir(exist_ok=True)
    database = place.state / LMDB / "data.mdb"
    if not database.exists():
        _bring(data, place, database)
    with dropped_if_bad(database, place):
        total = environment(database.parent).stat()["entries"]
    shown = data.location if is_address(data.location) else PurePosixPath(data.location).name
    arrive = partial(_outcomes, database, place, shown)
    yield Listing(total, arrive, {f"{LMDB}/data.mdb": database})


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
        with dropped_if_bad(file, place):
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
                raise PatchDMError(f"{name}: found {len(inside)} data.mdb inside, expected one")
            if inside[0].file_size > 100 * file.stat().st_size + 2**24:
                raise PatchDMError(f"{name}: found a data.mdb of more than 100 times its size")
            with archive.open(inside[0]) as source, part.open("wb") as target:
                shutil.copyfileobj(source, target, CHUNK)
    except DAMAGES as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise PatchDMError(f"{name}: no readable zip archive: {error}") from None


def _outcomes(
    database: Path, place: Place, source: str, _put: Callable[[Path, str], str | None]
) -> Iterator[Outcome]:
    with dropped_if_bad(database, place):
        for name, sha256, size, refused in scan(database.parent):
            photograph = None if refused else Photograph(name, source, "unknown", sha256, size)
            yield Outcome(name, source, photograph, refused or "ok")
