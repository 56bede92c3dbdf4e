"""Images as files and as uint8 arrays (H, W, 3)."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngInfo

from patchdm.errors import PatchDMError, one_line
from patchdm.files import replacing
from patchdm.formats.colour import to_srgb
from patchdm.formats.views import View

logging.getLogger("PIL").addHandler(logging.NullHandler())  # it also logs what it raises

Pixels = NDArray[np.uint8]
WHOLE = View()

# Pillow's own JPEG reader also reads the tables of the pictures behind the first one, which cameras
# and phones write (MPO), and refuses the whole file if these are damaged.
Image.register_open("FIRST JPEG", JpegImageFile, lambda begin: begin.startswith(b"\xff\xd8\xff"))
FORMATS: tuple[str, ...] = ("FIRST JPEG", "PNG", "WEBP", "AVIF", "TIFF")
HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jif", ".jfif", ".jfi", ".pjpeg", ".pjp", ".mpo"})
SUFFIXES |= {".png", ".webp", ".avif", ".tif", ".tiff"}
"""Suffixes of photographs, in lower case."""
try:
    import pillow_heif
except ImportError:  # extra `heif`
    HAS_HEIF = False
else:
    HAS_HEIF = True
    # Otherwise thumbnails could replace their picture.
    pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
    FORMATS += ("HEIF",)
    SUFFIXES |= HEIF_SUFFIXES
EXPECTED = "expected JPEG, PNG, WebP, AVIF" + (", TIFF or HEIC" if HAS_HEIF else " or TIFF")
MAX_PIXELS = 2**26
"""Largest image that is decoded: a few bytes of a hostile file may announce gigapixels."""
DRAFT_PIXELS = 2**20
"""JPEGs of more pixels are decoded at a lower resolution if that is enough."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> transposition that turns the image upright."""

_DAMAGE: tuple[type[Exception], ...] = (OSError, SyntaxError, ValueError, EOFError, struct.error)
_DAMAGE += (zlib.error, LookupError, TypeError, AttributeError, OverflowError, RuntimeError)
_DAMAGE += (AssertionError,)
"""Errors of Pillow on damaged files; not MemoryError, which is not the file's fault."""


def read_image(file: Path | BinaryIO, name: str | None = None) -> Pixels:
    """Decode an image file as uint8 (H, W, 3) in sRGB, upright, transparency over white.

    Its ICC profile is applied, 16 bits per channel are scaled to 8, and of several pictures or
    pages the first is read.

    Args:
        name: what error messages call it; None: its path.

    Raises:
        PatchDMError: the file is missing, damaged, too large, or of another format.
    """
    with opened(file, name or str(file)) as image:
        return np.asarray(_upright(image))


def read_views(
    file: Path | BinaryIO,
    width: int,
    height: int,
    views: Sequence[View] = (WHOLE,),
    *,
    least_scale: float = 1.0,
    name: str | None = None,
) -> tuple[list[Pixels], tuple[int, int]]:
    """Decode an image like `read_image`; return views of it, and its own (width, height).

    A large JPEG is halved by its decoder (to the means of 2 x 2 pixels) if it shrinks to half or
    less, and again while it stays at least twice the size. This takes a fraction of the time and is
    about as near to the exact result as another good filter (tests/formats/test_images.py).

    Args:
        width, height: of the views.
        views: what they show.
        least_scale: at most theirs; decides how far a JPEG is halved.
        name: what error messages call the image; None: its path.
    """
    with opened(file, name or str(file)) as image:
        size = image.size
        if image.format == "JPEG" and image.width * image.height > DRAFT_PIXELS:
            sides = (height, width) if _is_turned(image) else (width, height)
            least = [math.ceil(side / least_scale) for side in sides]
            half = [side // 2 for side in image.size]
            # The medians: half, but at least what is needed; less than half only if twice that.
            across, down = (sorted((a, b, 2 * a))[1] for a, b in zip(least, half, strict=True))
            image.draft(image.mode, (across, down))
        upright = _upright(image)
        fitted = [_fitted(upright, width, height, view) for view in views]
        return fitted, size[::-1] if _is_turned(image) else size


def fit(image: Pixels, width: int, height: int) -> Pixels:
    """Scale uint8 (H, W, 3) until it covers width x height, antialiased, and cut out the centre."""
    return _fitted(Image.fromarray(image), width, height, WHOLE)


def save_png(path: Path, image: Pixels, text: Mapping[str, str] = MappingProxyType({})) -> None:
    """Write uint8 (H, W, 3) as a PNG, `text` in its text chunks; equal pixels give equal bytes."""
    chunks = PngInfo()
    for key, value in text.items():
        chunks.add_text(key, value)
    with replacing(path) as fresh:
        Image.fromarray(image).save(fresh, format="PNG", pnginfo=chunks)


def contact_sheet(images: Pixels, columns: int) -> Pixels:
    """Arrange images (n, H, W, 3) in reading order, two white pixels apart."""
    n, height, width, _ = images.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (height + 2) - 2, columns * (width + 2) - 2, 3), 255, np.uint8)
    for number, image in enumerate(images):
        y, x = number // columns * (height + 2), number % columns * (width + 2)
        sheet[y : y + height, x : x + width] = image
    return sheet


@contextlib.contextmanager
def opened(file: Path | BinaryIO, name: str) -> Iterator[Image.Image]:
    """Open an image without decoding it; any failure within becomes a PatchDMError."""
    try:
        with warnings.catch_warnings():
            # About large images: Pillow's limit is far above ours. About odd metadata: not needed.
            warnings.simplefilter("ignore")
            with Image.open(file, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise PatchDMError(
                        f"{name}: found {image.width} x {image.height} pixels, the limit is "
                        f"{MAX_PIXELS} in all"
                    )
                yield image
    except FileNotFoundError:
        raise PatchDMError(f"{name}: not found") from None
    except Image.DecompressionBombError:
        raise PatchDMError(f"{name}: found more than {MAX_PIXELS} pixels, the limit") from None
    except UnidentifiedImageError:
        raise PatchDMError(f"{name}: found no image, {_begin(file)}; {EXPECTED}") from None
    except _DAMAGE as error:
        raise PatchDMError(f"{name}: damaged image: {one_line(error)}") from None


def _begin(file: Path | BinaryIO) -> str:
    """Describe the first bytes of a file that is no supported image."""
    with file.open("rb") if isinstance(file, Path) else contextlib.nullcontext(file) as opened_file:
        opened_file.seek(0)
        begin = opened_file.read(12)
    if begin[4:8] == b"ftyp" and begin[8:11] in (b"hei", b"hev", b"mif") and not HAS_HEIF:
        return "it is HEIC, which `pip install pillow-heif` lets this program read"
    return f"it begins with {repr(begin)[1:]}"


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation; 1 (upright) if the EXIF is damaged."""
    if image.format in ("TIFF", "HEIF"):
        return 1  # their readers turn them
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _DAMAGE:
        return 1
    return orientation if orientation in _TURNS else 1


def _is_turned(image: Image.Image) -> bool:
    return _orientation(image) in (5, 6, 7, 8)


def _upright(image: Image.Image) -> Image.Image:
    """Decode an image as RGB and turn it."""
    with _no_stderr() if image.format == "TIFF" else contextlib.nullcontext():
        rgb = to_srgb(image)
    orientation = _orientation(image)  # only now, since Pillow must decode a PNG to know it
    return rgb.transpose(_TURNS[orientation]) if orientation in _TURNS else rgb


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    """Silence libtiff, which reports damaged data directly on standard error."""
    try:
        saved = os.dup(2)
    except OSError:  # closed
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - no path of the user's
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _fitted(image: Image.Image, width: int, height: int, view: View) -> Pixels:
    size = (width, height)
    part = image.resize(size, Image.Resampling.LANCZOS, view.box(image.size, size))
    return np.asarray(part)[:, :: -1 if view.mirrored else 1]
