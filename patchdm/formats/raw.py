"""data/raw: photographs by name, each a file or an entry of an LMDB, and their manifest.

The layout:

    manifest.parquet   one row per photograph, with the columns of `Photograph`
    outcomes.parquet   one row per photograph that the source lists: "ok", or why it is left out
    PATH               the photograph of that name
    lmdb/data.mdb      LSUN's database, whole: `lmdb/KEY` names the photograph of that key

Three million small files would be too many for DVC, so an LMDB stays one.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import quote_from_bytes, unquote_to_bytes

import lmdb
import pandas as pd

from patchdm.errors import PatchDMError

MANIFEST, OUTCOMES, LMDB = "manifest.parquet", "outcomes.parquet", "lmdb"
_DATA = f"{LMDB}/data.mdb"


class Photograph(NamedTuple):
    """A photograph of data/raw: a row of manifest.parquet."""

    image: str
    """Its name: a path below data/raw, or `lmdb/KEY`; `open_photograph` opens it."""
    source: str
    """Its URL, its path in its folder or archive, or its origin."""
    licence: str
    """Its licence, or "unknown"."""
    sha256: str
    bytes: int


def read_manifest(raw: Path) -> pd.DataFrame:
    """Read the manifest of fetched photographs, whose columns are those of `Photograph`.

    Raises:
        PatchDMError: it is missing or no parquet file.
    """
    path = raw / MANIFEST
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise PatchDMError(f"{path}: cannot be read: {error}") from None


def open_photograph(raw: Path, image: str) -> BinaryIO:
    """Open a photograph of data/raw by its name in the manifest.

    May be called in any process; each keeps one LMDB open.

    Raises:
        PatchDMError: there is no such photograph, or the LMDB is damaged.
    """
    folder, _, key = image.partition("/")
    if folder == LMDB and (raw / _DATA).is_file():
        with environment(raw / LMDB).begin() as transaction:
            content = transaction.get(unquote_to_bytes(key))
        if content is None:
            raise PatchDMError(f"{raw / _DATA}: {key}: not found")
        return io.BytesIO(content)
    try:
        return (raw / image).open("rb")
    except OSError as error:
        raise PatchDMError(f"{raw / image}: cannot be read: {error.strerror}") from None


def name_of_key(key: bytes) -> str:
    """Return the name of the photograph under a key of the LMDB."""
    return f"{LMDB}/{quote_from_bytes(key, safe='')}"


_open: dict[Path, tuple[tuple[int, ...], lmdb.Environment]] = {}
"""The LMDB that this process has open: path -> state of the file when opened, and the handle.

LMDB allows one handle per path in a process. It is read only and without locks, so a child may
continue to use the one it inherits.
"""


def environment(folder: Path) -> lmdb.Environment:
    """Open the LMDB of a folder to read, without a lock file; it stays open.

    Raises:
        PatchDMError: it is missing, no LMDB, or shorter than its own header says, so that reading
            it would end the process with SIGBUS.
    """
    path = folder.resolve() / "data.mdb"
    try:
        status = path.stat()
        file = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        if path in _open and _open[path][0] == file:
            return _open[path][1]
        for _, handle in _open.values():
            handle.close()
        _open.clear()
        handle = lmdb.open(str(path.parent), readonly=True, lock=False, create=False)
    except (OSError, lmdb.Error) as error:
        raise PatchDMError(f"{folder / 'data.mdb'}: no readable LMDB: {error}") from None
    needed = (handle.info()["last_pgno"] + 1) * handle.stat()["psize"]
    if status.st_size < needed:
        handle.close()
        raise PatchDMError(
            f"{folder / 'data.mdb'}: found {status.st_size} bytes, its header says {needed}"
        )
    _open[path] = (file, handle)
    return handle
