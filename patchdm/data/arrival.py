"""What is checked of every file that arrives, without decoding it."""

from __future__ import annotations

import hashlib
import mmap
import struct
import warnings
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from patchdm.data.images import FORMATS, MAX_PIXELS
from patchdm.errors import PatchDMError

MAX_BYTES = 2**28
"""Largest photograph that is copied, unpacked or downloaded."""
CHUNK = 2**20

Content = bytes | mmap.mmap


def copy(source: BinaryIO, path: Path, name: str) -> None:
    """Copy a stream to a file piece by piece.

    Raises:
        PatchDMError: it is larger than a photograph may be.
    """
    size = 0
    with path.open("wb") as file:
        while piece := source.read(CHUNK):
            size += len(piece)
            if size > MAX_BYTES:
                raise PatchDMError(f"{name}: found more than {MAX_BYTES} bytes, the limit")
            file.write(piece)


def check_file(path: Path, name: str, sha256: str | None) -> tuple[str, int]:
    """Check that a file is the photograph it should be; return its SHA-256 and size.

    Args:
        path: the file.
        name: what error messages call it.
        sha256: what its SHA-256 must be, where that is known.

    Raises:
        PatchDMError: it is empty, too large, of another hash, or no whole image.
    """
    size = path.stat().st_size
    if not size:
        raise PatchDMError(f"{name}: found no bytes")
    if size > MAX_BYTES:
        raise PatchDMError(f"{name}: found {size} bytes, the limit is {MAX_BYTES}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        if sha256 not in (None, found):
            raise PatchDMError(f"{name}: found sha256 {found}, allowed is {sha256}")
        file.seek(0)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            check_image(file, content, name)
    return found, size


def check_image(file: BinaryIO, content: Content, name: str) -> None:
    """Check header, size in pixels and end of an image: microseconds, where decoding takes long.

    Args:
        file: the open file.
        content: the same bytes.
        name: what error messages call it.

    Raises:
        PatchDMError: it is no JPEG, PNG or WebP file, has too many pixels, or is cut off.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our limit is lower
            image = Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError:
        raise PatchDMError(f"{name}: found more than {MAX_PIXELS} pixels, the limit") from None
    except UnidentifiedImageError:
        begin = bytes(content[:12])
        raise PatchDMError(
            f"{name}: found no image, it begins with {begin!r}; allowed are {', '.join(FORMATS)}"
        ) from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:  # Pillow's parsers
        raise PatchDMError(f"{name}: damaged image: {error}") from None
    if image.width * image.height > MAX_PIXELS:
        raise PatchDMError(
            f"{name}: found {image.width} x {image.height} pixels, the limit is {MAX_PIXELS} in all"
        )
    if not _is_whole(content, image.format or ""):
        raise PatchDMError(f"{name}: truncated image, its end is missing")


def _is_whole(content: Content, image_format: str) -> bool:
    """Say whether the file goes on to the end that its format marks."""
    match image_format:
        case "JPEG":  # neither marker occurs in the data of a scan; thumbnails come before it
            return content.rfind(b"\xff\xd9") > content.rfind(b"\xff\xda")
        case "PNG":
            return content.rfind(b"IEND\xaeB`\x82") > 0
        case _:  # WebP: a RIFF file, whose length stands in its header
            return len(content) >= int.from_bytes(content[4:8], "little") + 8
