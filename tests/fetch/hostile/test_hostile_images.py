"""Files that are no images, not whole ones, or far too large ones; LMDBs of such, or broken."""

from __future__ import annotations

import io
import random
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from patchdm.formats.raw import open_photograph
from tests.fetch.hostile.cases import error_or_all, left_out, refused
from tests.fetch.packs import lsun_zip, write_lmdb, zip_of
from tests.photographs import encoded, jpegs, photograph, write_folder

GOOD = jpegs(3)
WHOLE = {kind: encoded(photograph(4), kind) for kind in ("JPEG", "PNG", "WEBP", "AVIF", "TIFF")}


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG file."""
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """Return a PNG file that says it has so many pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = b"".join(chunks) or chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


def jpeg(width: int, height: int) -> bytes:
    """Return a JPEG file that says it has so many pixels."""
    content = bytearray(WHOLE["JPEG"])
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(content)


def webp(width: int, height: int) -> bytes:
    """Return an extended WebP file that says it has so many pixels."""
    sizes = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + sizes
    return b"RIFF" + struct.pack("<I", len(body)) + body


def image_of(kind: str) -> bytes:
    """Return an image in a format that is not allowed."""
    buffer = io.BytesIO()
    Image.fromarray(photograph(5)).save(buffer, kind)
    return buffer.getvalue()


def hostile(tmp_path: Path, content: bytes, name: str = "evil.jpg") -> str:
    """Bring a folder of good photographs and this one."""
    location = write_folder(tmp_path / "source", GOOD | {f"z{name}": content})
    reason = left_out(tmp_path, "folder", location, GOOD)
    (location / f"z{name}").unlink()
    return reason


@pytest.mark.parametrize("share", [0, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
@pytest.mark.parametrize("kind", WHOLE)
def test_truncated_images(tmp_path: Path, kind: str, share: float) -> None:
    content = WHOLE[kind][: int(share * len(WHOLE[kind]))]
    reason = hostile(tmp_path, content)
    assert any(word in reason for word in ("no bytes", "no image", "damaged", "truncated"))


@pytest.mark.parametrize(
    "content",
    [
        png(60_000, 60_000), png(2**31 - 1, 2**31 - 1), png(2**26 + 1, 1), png(8193, 8192),
        png(0, 0), png(2**32 - 1, 1), jpeg(65_535, 65_535), jpeg(10_000, 10_000), jpeg(0, 10),
        webp(16_384, 16_384), webp(2**24, 256), webp(2**24, 2**24),
    ],
    ids=range(12),
)  # fmt: skip
def test_images_of_too_many_pixels_or_none(tmp_path: Path, content: bytes) -> None:
    hostile(tmp_path, content)


@pytest.mark.parametrize(
    "content",
    [
        png(100, 100, chunk(b"zTXt", b"evil\0\0" + zlib.compress(bytes(2**26)))),
        png(100, 100, *[chunk(b"zTXt", b"evil\0\0" + zlib.compress(bytes(2**20)))] * 80),
        png(100, 100, chunk(b"iCCP", b"evil\0\0" + zlib.compress(bytes(2**26)))),
        png(100, 100, chunk(b"iTXt", b"evil\0\1\0\0\0" + zlib.compress(bytes(2**26)))),
    ],
    ids=["zTXt", "many zTXt", "iCCP", "iTXt"],
)
def test_texts_that_unpack_to_megabytes(tmp_path: Path, content: bytes) -> None:
    """Refused or not, these cost no memory; their pixels are for who decodes them."""
    location = write_folder(tmp_path / "source", GOOD | {"text.png": content})
    error_or_all(tmp_path, "folder", location, GOOD | {"text.png": content})


@pytest.mark.parametrize(
    "content",
    [
        b"<!DOCTYPE html><html><body>404 Not Found</body></html>", b"404", b"\0", b"\n" * 5000,
        b'{"error": "quota exceeded"}', b"%PDF-1.7\n", b"#!/bin/sh\nrm -rf /\n", b"\x7fELF" * 100,
        b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'></svg>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"push graphic-context\n",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        b"\xff\xd8\xff", b"\xff\xd8" * 1000, b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP",
        b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(100), zip_of(GOOD),
        *(image_of(kind) for kind in ("GIF", "BMP", "PPM", "ICO", "JPEG2000", "PCX")),
    ],
    ids=range(24),
)  # fmt: skip
def test_what_is_no_image(tmp_path: Path, content: bytes) -> None:
    assert "/zevil.jpg: " in hostile(tmp_path, content)


@pytest.mark.parametrize("seed", range(20))
def test_images_of_random_bytes_after_a_right_start(tmp_path: Path, seed: int) -> None:
    kind, dice = list(WHOLE)[seed % 3], random.Random(seed)
    content = WHOLE[kind][: 2 + dice.randrange(200)] + dice.randbytes(2000)
    if kind == "WEBP":  # has no mark at its end
        content = content[:600]
    hostile(tmp_path, content)


def test_pipes_devices_and_links_in_folders(tmp_path: Path) -> None:
    location = write_folder(tmp_path / "source", GOOD)
    (location / "zero.jpg").symlink_to("/dev/zero")
    (location / "self.jpg").symlink_to(location / "self.jpg")
    (location / "up").symlink_to(location)
    (location / "folder.jpg").mkdir()
    raw = error_or_all(tmp_path, "folder", location, GOOD)
    assert not isinstance(raw, str)


def test_names_of_folders_that_are_no_text(tmp_path: Path) -> None:
    location = write_folder(tmp_path / "source", GOOD)
    (location / b"\xff\nz.jpg".decode("utf-8", "surrogateescape")).write_bytes(GOOD["scene0.jpg"])
    assert "'\\udcff\\nz.jpg'" in left_out(tmp_path, "folder", location, GOOD)


KEYS = {f"{number:040x}".encode(): WHOLE["WEBP"] + bytes([number]) for number in range(200)}


@pytest.mark.parametrize("share", [0, 0.001, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_truncated_databases(tmp_path: Path, share: float) -> None:
    location = write_lmdb(tmp_path / "x_lmdb", KEYS)
    content = (location / "data.mdb").read_bytes()
    (location / "data.mdb").write_bytes(content[: int(share * len(content))])
    assert "data.mdb: " in refused(tmp_path, "lsun", location)


@pytest.mark.parametrize("seed", range(16))
def test_databases_with_pages_of_junk(tmp_path: Path, seed: int) -> None:
    """Whatever a damaged page does to the library that reads it, it does it to a child."""
    location = write_lmdb(tmp_path / "x_lmdb", KEYS)
    content, dice = bytearray((location / "data.mdb").read_bytes()), random.Random(seed)
    pages = len(content) // 4096
    for _ in range(1 + seed // 2):
        at = 4096 * dice.randrange(2, pages)
        content[at : at + 64] = dice.randbytes(64)
    (location / "data.mdb").write_bytes(content)
    whole = {"lmdb/data.mdb": bytes(content)}
    raw = error_or_all(tmp_path, "lsun", location, whole, damaged_fraction=0.99)
    if not isinstance(raw, str):
        for name in raw.manifest["image"][:5]:
            assert open_photograph(raw.folder, name).read(4) == b"RIFF"


@pytest.mark.parametrize("seed", range(4))
def test_databases_with_damaged_headers(tmp_path: Path, seed: int) -> None:
    location = write_lmdb(tmp_path / "x_lmdb", KEYS)
    content, dice = bytearray((location / "data.mdb").read_bytes()), random.Random(seed)
    for page in (0, 4096):
        content[page + 16 : page + 152] = dice.randbytes(136)
    (location / "data.mdb").write_bytes(content)
    assert "data.mdb: " in refused(tmp_path, "lsun", location)


@pytest.mark.parametrize(
    "files",
    [
        {}, {"readme.txt": b"hello"}, {"a/data.mdb": b"", "b/data.mdb": b""},
        {"x_lmdb/data.mdb": b""}, {"x_lmdb/data.mdb": b"junk" * 5000},
        {"x_lmdb/data.mdb": bytes(24 * 2**20)}, {"x_lmdb/data.mdb": bytes(8192)},
        {"../../evil/data.mdb": b"junk" * 5000},
    ],
    ids=range(8),
)  # fmt: skip
def test_zips_that_are_not_lsuns(tmp_path: Path, files: dict[str, bytes]) -> None:
    location = tmp_path / "x_lmdb.zip"
    location.write_bytes(zip_of(files))
    refused(tmp_path, "lsun", location)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_truncated_zips_of_databases(tmp_path: Path, share: float) -> None:
    location = lsun_zip(tmp_path, KEYS)
    location.write_bytes(location.read_bytes()[: int(share * location.stat().st_size)])
    refused(tmp_path, "lsun", location)


def test_flipped_bytes_of_databases(tmp_path: Path) -> None:
    location = lsun_zip(tmp_path, KEYS)
    content = bytearray(location.read_bytes())
    content[len(content) // 2] ^= 1
    location.write_bytes(content)
    assert "no readable zip" in refused(tmp_path, "lsun", location)


def test_databases_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "found no data.mdb" in refused(tmp_path, "lsun", tmp_path / "empty")
    assert "data.location is no file" in refused(tmp_path, "lsun", tmp_path / "lost.zip")


def test_databases_without_images(tmp_path: Path) -> None:
    location = write_lmdb(tmp_path / "x_lmdb", {b"a": b"hello"})
    assert "lmdb/a: found no image" in refused(tmp_path, "lsun", location)
    location = write_lmdb(tmp_path / "y_lmdb", {})
    refused(tmp_path / "other", "lsun", location)
