"""Archives that want to write elsewhere, fill the disk or the memory, or hide what they lost."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import random
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest
import zstandard

from tests.fetch.hostile.cases import error_or_all, left_out, refused
from tests.fetch.packs import PACKERS, tar_of, zip_of
from tests.photographs import jpegs

GOOD = jpegs(3)
PHOTO = GOOD["scene0.jpg"]
NAMES = [
    "../evil.jpg", "../../../../../../../../tmp/evil.jpg", "/tmp/evil.jpg", "a/../../evil.jpg",
    "..\\evil.jpg", "C:\\evil.jpg", "C:evil.jpg", "\\\\server\\share\\evil.jpg", "a/../evil.jpg",
    "..", "evil\n.jpg", "evil\x1b[2J.jpg", "evil\u2028.jpg", "evil\x7f.jpg",
    "evil" + "l" * 250 + ".jpg", "/".join(["evil"] * 300) + ".jpg", "e/" * 200 + "evil.jpg",
    "con/evil.jpg", "AUX.jpg", "nul.evil.jpg", "com1.jpg", "evil /x.jpg", "evil./x.jpg",
    "lmdb/evil.jpg", "LMDB/evil.jpg",
    "scene0.jpg", "SCENE0.jpg", "Scene0.JPG", "scene0.jpg/evil.jpg",
]  # fmt: skip
TARS = ["tar", "tar.gz", "tar.bz2", "tar.xz", "tar.zst"]


def write(tmp_path: Path, content: bytes) -> Path:
    location = tmp_path / "archive"
    location.write_bytes(content)
    return location


def compressed(kind: str, content: bytes) -> bytes:
    """Return a tar archive in its compression."""
    pack = {"tar": bytes, "tar.gz": gzip.compress, "tar.zst": zstandard.compress}
    pack |= {"tar.bz2": bz2.compress, "tar.xz": lzma.compress}
    return pack[kind](content)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:30])
def test_names(tmp_path: Path, kind: str, name: str) -> None:
    entries = [*GOOD.items(), (name if name != ".." else "../..jpg", PHOTO)]
    location = write(tmp_path, pack_pairs(kind, entries))
    reason = left_out(tmp_path, "archive", location, GOOD)
    assert reason.startswith("found the name")
    if kind == "zip":
        assert refused(tmp_path / "deep", "archive", location) == reason


def pack_pairs(kind: str, entries: list[tuple[str, bytes]]) -> bytes:
    """Return an archive that may hold a name twice."""
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in entries:
                member = zipfile.ZipInfo("x")
                member.filename = name
                archive.writestr(member, content)
        return buffer.getvalue()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return compressed(kind, buffer.getvalue())


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("é.jpg", "e\u0301.jpg"),
        ("ﬃ/a.jpg", "ffi/a.jpg"),
        ("STRASSE.jpg", "straße.jpg"),
        ("Å.jpg", "\u212b.jpg"),
        ("a/b.jpg", "A/b.jpg"),
        ("\uac00.jpg", "\u1100\u1161.jpg"),
        ("x/y.jpg", "X/Y.JPG"),
    ],
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_that_a_disk_may_take_for_the_same(
    tmp_path: Path, kind: str, first: str, second: str
) -> None:
    location = write(tmp_path, pack_pairs(kind, [(first, PHOTO), (second, PHOTO)]))
    reason = left_out(tmp_path, "archive", location, {first: PHOTO})
    assert "twice, but for case or Unicode form" in reason


def test_names_that_are_no_text(tmp_path: Path) -> None:
    content = tar_of(GOOD | {"evil1.jpg": PHOTO}).replace(b"evil1.jpg", b"evil\xff.jpg")
    fixed = bytearray(content)
    at = content.index(b"evil\xff.jpg")
    fixed[at + 148 : at + 156] = b"        "
    fixed[at + 148 : at + 156] = b"%06o\0 " % sum(fixed[at : at + 512])
    reason = left_out(tmp_path, "archive", write(tmp_path, bytes(fixed)), GOOD)
    assert "'evil\\udcff.jpg', expected text" in reason


@pytest.mark.parametrize("compression", TARS)
@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE],
    ids=["symlink", "hardlink", "character", "block", "fifo"],
)
def test_what_is_no_file_in_a_tar(tmp_path: Path, compression: str, kind: bytes) -> None:
    buffer = io.BytesIO(tar_of(GOOD))
    with tarfile.open(fileobj=buffer, mode="a") as archive:
        evil = tarfile.TarInfo("evil.jpg")
        evil.type, evil.linkname = kind, "/etc/passwd"
        archive.addfile(evil)
    location = write(tmp_path, compressed(compression, buffer.getvalue()))
    assert "is no regular file" in left_out(tmp_path, "archive", location, GOOD)


@pytest.mark.parametrize("mode", [0o120777, 0o020666, 0o060666, 0o010666, 0o140666])
def test_what_is_no_file_in_a_zip(tmp_path: Path, mode: int) -> None:
    buffer = io.BytesIO(zip_of(GOOD))
    with zipfile.ZipFile(buffer, "a") as archive:
        evil = zipfile.ZipInfo("evil.jpg")
        evil.external_attr = mode << 16
        archive.writestr(evil, "/etc/passwd")
    location = write(tmp_path, buffer.getvalue())
    assert "is no regular file" in left_out(tmp_path, "archive", location, GOOD)


def test_sparse_files(tmp_path: Path) -> None:
    sparse = tarfile.TarInfo("evil.jpg")
    sparse.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(sparse.tobuf(tarfile.GNU_FORMAT))
    header[386:398], header[398:410] = b"00000000000\0", b"00000000000\0"
    header[483:495] = b"77777777777\0"  # 8 GiB when unpacked
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    content = tar_of(GOOD)
    location = write(tmp_path, bytes(header) + content)
    assert "is no regular file" in left_out(tmp_path, "archive", location, GOOD)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zip_bombs(tmp_path: Path, method: int) -> None:
    location = tmp_path / "archive"
    with (
        zipfile.ZipFile(location, "w", method) as archive,
        archive.open("evil.jpg", "w") as member,
    ):
        for _ in range(24):
            member.write(bytes(2**20))
    assert "more than 100 times its size" in refused(tmp_path, "archive", location)


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("kind", TARS[1:])
def test_tar_bombs(tmp_path: Path, kind: str, many: bool) -> None:
    location = tmp_path / "archive"
    opened = {"tar.gz": gzip.open, "tar.bz2": bz2.open, "tar.xz": lzma.open}
    with (
        opened.get(kind, zstandard.open)(location, "wb") as file,
        tarfile.open(fileobj=file, mode="w|") as archive,
    ):
        for number in range(12 if many else 1):
            info = tarfile.TarInfo(f"evil{number}.jpg")
            info.size = 2 * 2**20 if many else 24 * 2**20
            archive.addfile(info, io.BytesIO(bytes(info.size)))
    assert "more than 100 times its size" in refused(tmp_path, "archive", location)


def test_zip_bombs_of_overlapping_members(tmp_path: Path) -> None:
    one = zip_of({"evil.jpg": bytes(2**20)})
    end = one.index(b"PK\x01\x02")
    entry, tail = one[end : one.index(b"PK\x05\x06")], one[one.index(b"PK\x05\x06") :]
    count = 200
    tail = tail[:8] + struct.pack("<HHI", count, count, count * len(entry)) + tail[16:]
    location = write(tmp_path, one[:end] + count * entry + tail)
    refused(tmp_path, "archive", location)


def test_nested_bombs_stay_packed(tmp_path: Path) -> None:
    inner = zip_of({"evil.jpg": bytes(10 * 2**20)})
    location = write(tmp_path, zip_of(GOOD | {"evil.zip": inner, "evil.jpg": inner}))
    assert "found no image" in left_out(tmp_path, "archive", location, GOOD)


def lying_header(kind: bytes, size: int) -> bytes:
    """Return a tar header of an extended kind that announces a large body."""
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("size", [2**26, 2**30, 2**33 - 1, 2**60])
@pytest.mark.parametrize(
    "kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK]
)
def test_headers_that_announce_gigabytes(tmp_path: Path, kind: bytes, size: int) -> None:
    content = lying_header(kind, size) + bytes(2**16) + tar_of(GOOD)
    location = write(tmp_path, gzip.compress(content))
    assert "found a header of" in refused(tmp_path, "archive", location)


@pytest.mark.parametrize("share", [0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97])
@pytest.mark.parametrize("kind", PACKERS)
def test_truncated_archives(tmp_path: Path, kind: str, share: float) -> None:
    content = PACKERS[kind](GOOD)
    if kind == "tar":  # its end is 10 KiB of zeros
        content = content.rstrip(b"\0")
    location = write(tmp_path, content[: int(share * len(content))])
    assert "no readable archive" in refused(tmp_path, "archive", location)


@pytest.mark.parametrize("blocks", range(1, 8))
def test_tars_that_end_early_lose_nothing_in_silence(tmp_path: Path, blocks: int) -> None:
    """Cut at a block's end, where tarfile sees nothing wrong, or put zeros before the end."""
    content = tar_of(GOOD)
    location = write(tmp_path, content[: 512 * blocks])
    refused(tmp_path, "archive", location)
    second = content.index(b"scene1.jpg")
    location = write(tmp_path, content[:second] + bytes(512 * blocks) + content[second:])
    refused(tmp_path, "archive", location)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("kind", PACKERS)
def test_flipped_bytes(tmp_path: Path, kind: str, seed: int) -> None:
    content = bytearray(PACKERS[kind](GOOD))
    pin = hashlib.sha256(content).hexdigest() if kind in ("tar", "tar.zst") else None
    dice = random.Random(seed)
    for _ in range(1 + seed % 3):
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    error_or_all(tmp_path, "archive", write(tmp_path, bytes(content)), GOOD, pin=pin)


def test_encrypted_members(tmp_path: Path) -> None:
    content = bytearray(zip_of({"evil.jpg": PHOTO} | GOOD))
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    location = write(tmp_path, bytes(content))
    assert "evil.jpg: is encrypted" in left_out(tmp_path, "archive", location, GOOD)


@pytest.mark.parametrize("method", [1, 6, 9, 93, 97, 99])
def test_exotic_compression(tmp_path: Path, method: int) -> None:
    content = bytearray(zip_of({"evil.jpg": PHOTO} | GOOD))
    content[8:10] = struct.pack("<H", method)
    at = content.index(b"PK\x01\x02") + 10
    content[at : at + 2] = struct.pack("<H", method)
    location = write(tmp_path, bytes(content))
    assert "evil.jpg: cannot be read: " in left_out(tmp_path, "archive", location, GOOD)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"PK", b"PK\x03\x04", b"PK\x05\x06" + bytes(18), b"\x1f\x8b", b"\x28\xb5\x2f\xfd",
        b"<html>404</html>", b"Rar!\x1a\x07\x00", b"7z\xbc\xaf\x27\x1c", bytes(10240), bytes(511),
        PHOTO, lzma.compress(tar_of(GOOD), lzma.FORMAT_ALONE), gzip.compress(b"no tar"),
        zstandard.compress(b"no tar"),
        gzip.compress(gzip.compress(tar_of(GOOD))), b"\xff" * 5000,
        b"\x28\xb5\x2f\xfd" + b"\xff" * 100,
        lzma.compress(b"no tar"), bz2.compress(b"no tar"), b"\xfd7zXZ\0" + b"\xff" * 100,
        lzma.compress(tar_of(GOOD)) + b"junk", b"BZh9" + b"\xff" * 100, b"BZh9", b"\xfd7zXZ\0",
    ],
    ids=range(25),
)  # fmt: skip
def test_what_is_no_archive(tmp_path: Path, content: bytes) -> None:
    reason = refused(tmp_path, "archive", write(tmp_path, content))
    kinds = "; expected zip, tar, tar.gz, tar.bz2, tar.xz, tar.zst"
    assert reason.endswith((kinds, "found no image in it, it is empty"))


def test_windows_that_need_gigabytes(tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=30)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    content = compressor.compress(tar_of(GOOD)) + compressor.flush()
    assert "no readable archive" in refused(tmp_path, "archive", write(tmp_path, content))


def test_a_dictionary_of_xz_that_needs_gigabytes(tmp_path: Path) -> None:
    content = bytearray(lzma.compress(tar_of(GOOD)))
    header = content[12 : 12 + 4 * (content[12] + 1)]
    assert header[2:4] == b"\x21\x01"  # LZMA2, whose one byte says how large its dictionary is
    header[4] = 38  # 2 GiB
    header[-4:] = struct.pack("<I", zlib.crc32(header[:-4]))
    content[12 : 12 + len(header)] = header
    reason = refused(tmp_path, "archive", write(tmp_path, bytes(content)))
    assert "Memory usage limit exceeded" in reason


def test_a_gzip_of_another_crc(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(tar_of(GOOD)))
    content[-5] ^= 1
    assert "CRC" in refused(tmp_path, "archive", write(tmp_path, bytes(content)))
