"""LSUN as its authors publish it: an LMDB of encoded images, in a zip archive."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from patchdm.config.data import Data, is_url
from patchdm.errors import PatchDMError
from patchdm.fetch.archives import DAMAGES, check_ratio
from patchdm.fetch.arrival import PIECE, Arrival
from patchdm.fetch.scan import scan
from patchdm.fetch.sources.archive import dropped_if_bad, local_file
from patchdm.fetch.sources.listing import Listing, Workspace
from patchdm.formats.raw import LMDB, environment


@contextmanager
def open_listing(data: Data, workspace: Workspace) -> Iterator[Listing]:
    """Yield the images of an LMDB: of a folder with data.mdb, or of a zip file or its URL."""
    database = workspace.state / LMDB / "data.mdb"
    if not database.exists():
        _fetch(data, workspace, database)
    with dropped_if_bad(database, workspace):
        total = environment(database.parent).stat()["entries"]
    yield Listing(total, _arrivals(data, workspace, database), {f"{LMDB}/data.mdb": database})


def _arrivals(data: Data, workspace: Workspace, database: Path) -> Iterator[Arrival]:
    source = data.location if is_url(data.location) else PurePosixPath(data.location).name
    with dropped_if_bad(database, workspace):
        yield from scan(database.parent, source)


def _fetch(data: Data, workspace: Workspace, database: Path) -> None:
    """Copy, or download and unpack, data.mdb."""
    part = workspace.state / "data.mdb.part"
    folder = workspace.root / data.location
    if not is_url(data.location) and folder.is_dir():
        if not (folder / "data.mdb").is_file():
            raise PatchDMError(f"{data.location}: found no data.mdb, an LMDB has one")
        shutil.copyfile(folder / "data.mdb", part)
    else:
        file = local_file(data, workspace)
        with dropped_if_bad(file, workspace):
            _unpack(file, part, data.location)
        if workspace.state in file.parents:
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
            check_ratio(inside[0].file_size, file.stat().st_size)
            with archive.open(inside[0]) as stream, part.open("wb") as target:
                shutil.copyfileobj(stream, target, PIECE)
    except DAMAGES as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise PatchDMError(f"{name}: no readable zip archive: {error}") from None
