"""Archives, LMDBs and data sets of the hub, as tests want them."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import tarfile
import zipfile
from pathlib import Path

import lmdb
import zstandard

from patchdm.formats.raw import open_photograph
from tests.fetch.server import Site

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def tar_of(files: dict[str, bytes]) -> bytes:
    """Return a tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return buffer.getvalue()


def gz_of(files: dict[str, bytes]) -> bytes:
    """Return a tar.gz archive."""
    return gzip.compress(tar_of(files), mtime=0)


def zst_of(files: dict[str, bytes]) -> bytes:
    """Return a tar.zst archive of two frames, as parallel compressors write them."""
    content = tar_of(files)
    halves = content[: len(content) // 2], content[len(content) // 2 :]
    return b"".join(zstandard.compress(half) for half in halves)


def bz2_of(files: dict[str, bytes]) -> bytes:
    """Return a tar.bz2 archive."""
    return bz2.compress(tar_of(files))


def xz_of(files: dict[str, bytes]) -> bytes:
    """Return a tar.xz archive of two streams with zeros between and behind them."""
    content = tar_of(files)
    halves = content[: len(content) // 2], content[len(content) // 2 :]
    return b"".join(lzma.compress(half) + bytes(8) for half in halves)


PACKERS = {"zip": zip_of, "tar": tar_of, "tar.gz": gz_of, "tar.bz2": bz2_of}
PACKERS |= {"tar.xz": xz_of, "tar.zst": zst_of}


def write_lmdb(folder: Path, entries: dict[bytes, bytes]) -> Path:
    """Write an LMDB as LSUN's are; return its folder."""
    folder.mkdir(parents=True)
    with lmdb.open(str(folder), map_size=2**28) as database, database.begin(write=True) as change:
        for key, value in entries.items():
            change.put(key, value)
    return folder


def lsun_zip(folder: Path, entries: dict[bytes, bytes], name: str = "church_lmdb") -> Path:
    """Write the zip archive of an LMDB; return it."""
    database = write_lmdb(folder / name, entries)
    files = {f"{name}/{part.name}": part.read_bytes() for part in sorted(database.iterdir())}
    location = folder / f"{name}.zip"
    location.write_bytes(zip_of(files))
    return location


def hash_of(raw: Path, name: str) -> str:
    """Return the SHA-256 of a photograph, in any process."""
    with open_photograph(raw, name) as file:
        return hashlib.sha256(file.read()).hexdigest()


def add_hub(
    site: Site,
    repository: str,
    files: dict[str, bytes],
    lfs: bool = True,
    kind: str = "datasets",
    commit: str = COMMIT,
) -> None:
    """Make a server answer like the hub that holds a data set or a model."""
    root = repository if kind == "models" else f"{kind}/{repository}"
    tree = []
    for path, content in files.items():
        oid = hashlib.sha1(content).hexdigest()
        entry = {"type": "file", "oid": oid, "size": len(content), "path": path}
        if lfs:
            sha256 = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 130}
        tree.append(entry)
        site.files[f"{root}/resolve/{commit}/{path}"] = content
    tree.append({"type": "directory", "oid": COMMIT, "size": 0, "path": "images"})
    api = f"api/{kind}/{repository}"
    for revision in ("", "/revision/main", f"/revision/{commit}"):
        info = {"id": repository, "sha": commit, "siblings": [{"rfilename": p} for p in files]}
        site.files[f"{api}{revision}"] = json.dumps(info).encode()
    listed = json.dumps(tree).encode()
    site.files[f"{api}/tree/{commit}?recursive=true&expand=false"] = listed
    site.files[f"{api}/tree/{commit}?recursive=True&expand=False"] = listed
