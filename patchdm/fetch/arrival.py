"""What arrives from a source, and what is checked of it without decoding it."""

from __future__ import annotations

import hashlib
import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

from PIL import Image

from patchdm.errors import PatchDMError
from patchdm.formats.images import opened
from patchdm.formats.raw import Photograph

MAX_BYTES = 2**28
"""Largest photograph that is copied, unpacked or downloaded."""
PIECE = 2**20
_MOST_SEGMENTS = 2**16
"""Segments of a JPEG, or boxes of an AVIF or HEIC file, that are looked at."""
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""Begins a segment of a JPEG. In the data of a scan, which follow one, 0xff stands before zero or a
restart marker alone."""
_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8}
"""Type of a value -> its bytes."""

Content = bytes | mmap.mmap


class Arrival(NamedTuple):
    """A photograph that a source lists: fetched and checked, or left out."""

    photograph: Photograph
    """Its row of the manifest; one that is left out may have no hash."""
    refused: str | None = None
    """Why it is left out."""
    file: Path | None = None
    """The file with its bytes; None: it is left out, or inside one of `Listing.others`."""


def copy(stream: BinaryIO, path: Path, name: str) -> None:
    """Copy a stream to a file piece by piece; refuse one of more than MAX_BYTES."""
    with path.open("wb") as file:
        while piece := stream.read(PIECE):
            if file.tell() + len(piece) > MAX_BYTES:
                raise PatchDMError(f"{name}: found more than {MAX_BYTES} bytes, the limit")
            file.write(piece)


def check_file(path: Path, name: str, sha256: str | None) -> tuple[str, int]:
    """Check that a file is a whole photograph of the expected hash; return its SHA-256 and size.

    Raises:
        PatchDMError: it is empty, too large, of another hash, or no complete image.
    """
    size = path.stat().st_size
    if not size:
        raise PatchDMError(f"{name}: found no bytes")
    if size > MAX_BYTES:
        raise PatchDMError(f"{name}: found {size} bytes, the limit is {MAX_BYTES}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        if sha256 not in (None, found):
            raise PatchDMError(f"{name}: found sha256 {found}, expected {sha256}")
        file.seek(0)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            check_image(file, content, name)
    return found, size


def check_image(file: BinaryIO, content: Content, name: str) -> None:
    """Refuse an image of a wrong format or size, or that is cut off, without decoding it.

    `content` has the same bytes as the file.
    """
    with opened(file, name) as image:
        if not _is_whole(content, image):
            raise PatchDMError(f"{name}: truncated image, its end is missing")


def _is_whole(content: Content, image: Image.Image) -> bool:
    """Return whether the file reaches the end that its format marks; more may follow."""
    match image.format:
        case "JPEG":
            return _has_jpeg_end(content)
        case "PNG":
            return content.rfind(b"IEND\xaeB`\x82") > 0
        case "TIFF":
            return max(_tiff_ends(content, image)) <= len(content)
        case "AVIF" | "HEIF":
            return _has_media(content)
        case _:  # WebP: a RIFF file, whose length stands in its header
            return len(content) >= int.from_bytes(content[4:8], "little") + 8


def _has_jpeg_end(content: Content) -> bool:
    """Walk the segments of a JPEG to the end of its first picture.

    Segments, in which thumbnails lie, and bytes between segments are skipped, as decoders do.
    Further pictures or a phone's video behind the end are not checked.
    """
    at, in_scan = 2, False
    for _ in range(_MOST_SEGMENTS):
        found = _MARKER.search(content, at)
        if not found:
            return False
        at, kind = found.end(), found.group()[1]
        if kind in (0xD8, 0xD9):  # the next picture begins, this one ends
            return kind == 0xD9 and in_scan
        if kind != 0x01:  # the other marker without a length
            in_scan |= kind == 0xDA
            at += int.from_bytes(content[at : at + 2])
    return False


def _tiff_ends(content: Content, image: Image.Image) -> Iterator[int]:
    """Yield the ends of the directory of a TIFF's first page, of its long values and its pixels."""
    order: Literal["little", "big"] = "little" if content[:2] == b"II" else "big"

    def number(at: int, size: int) -> int:
        return int.from_bytes(content[at : at + size], order)

    long, large = (8, 8) if number(2, 2) == 43 else (4, 2)  # BigTIFF
    start, entry = number(long, long), 4 + 2 * long
    count = min(number(start, large), _MOST_SEGMENTS)
    yield start + large + count * entry + long  # with the place of the next page's
    for at in range(start + large, start + large + count * entry, entry):
        size = _TIFF_SIZES.get(number(at + 2, 2), 0) * number(at + 4, long)
        if size > long:
            yield number(at + 4 + long, long) + size
    tags = image.tag_v2  # type: ignore[attr-defined]
    for offsets, sizes in ((273, 279), (324, 325)):  # of strips and tiles
        yield from map(sum, zip(tags.get(offsets, ()), tags.get(sizes, ()), strict=False))


def _has_media(content: Content) -> bool:
    """Walk the boxes of an AVIF or HEIC file: the description of the picture and its data exist.

    A phone's video in its own box, or other bytes, may follow.
    """
    at, there = 0, set[bytes]()
    for _ in range(_MOST_SEGMENTS):
        size, kind = int.from_bytes(content[at : at + 4]), bytes(content[at + 4 : at + 8])
        if size == 1:
            size = int.from_bytes(content[at + 8 : at + 16])
        elif size == 0:  # to the end of the file
            size = len(content) - at
        if kind in (b"meta", b"mdat", b"moov"):
            if size < 8 or at + size > len(content):
                return False
            there.add(kind)
            if kind == b"meta" and content.find(b"idat", at, at + size) > 0:
                there.add(b"mdat")  # the data of small pictures may lie there
        if size < 8 or at + size >= len(content):
            break
        at += size
    return b"mdat" in there and len(there) > 1
