"""Images on their way in and out: files, uint8 arrays (H, W, 3), tensors in [-1, 1]."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from patchdm.errors import PatchDMError
from patchdm.files import replacing

Pixels = NDArray[np.uint8]

FORMATS = ("JPEG", "PNG", "WEBP")
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
MAX_PIXELS = 2**26
"""Largest image that is decoded: a few bytes of a hostile file can announce gigapixels."""


def read_image(file: Path | BinaryIO, name: str | None = None) -> Pixels:
    """Decode a JPEG, PNG or WebP file as uint8 (H, W, 3), upright, transparency over white.

    Args:
        file: its path, or the open file.
        name: what error messages call it, where that is not its path.

    Raises:
        PatchDMError: the file is missing, truncated, no such image, too large, or deeper than
            eight bits a channel.
    """
    name = name or str(file)
    try:
        with warnings.catch_warnings():
            # Pillow's limit is far above ours, which is checked before a pixel is decoded.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(file, formats=FORMATS)
        with image:
            if image.width * image.height > MAX_PIXELS:
                raise PatchDMError(
                    f"{name}: found {image.width} x {image.height} pixels, "
                    f"allowed are {MAX_PIXELS} in all"
                )
            if image.mode.startswith("I"):
                raise PatchDMError(f"{name}: found 16 bits a channel, allowed are 8")
            return np.asarray(_opaque(ImageOps.exif_transpose(image)).convert("RGB"))
    except FileNotFoundError:
        raise PatchDMError(f"{name}: not found") from None
    except Image.DecompressionBombError:
        raise PatchDMError(f"{name}: found more than {MAX_PIXELS} pixels") from None
    except UnidentifiedImageError:
        raise PatchDMError(
            f"{name}: found no image, allowed are {', '.join(FORMATS)} files"
        ) from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what Pillow's decoders raise
        raise PatchDMError(f"{name}: damaged image: {error}") from None


def fit(image: Pixels, width: int, height: int) -> Pixels:
    """Scale an image until it covers width x height, antialiased, and cut out the centre."""
    fitted = ImageOps.fit(Image.fromarray(image), (width, height), Image.Resampling.LANCZOS)
    return np.asarray(fitted)


def save_png(path: Path, image: Pixels) -> None:
    """Write uint8 (H, W, 3) as a PNG; equal pixels give equal bytes."""
    with replacing(path) as fresh:
        Image.fromarray(image).save(fresh, format="PNG")


def to_tensor(images: Pixels) -> Tensor:
    """Turn uint8 (n, H, W, 3) into float32 (n, 3, H, W) in [-1, 1]."""
    tensor = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
    return tensor.to(torch.float32, memory_format=torch.contiguous_format) / 127.5 - 1


def to_uint8(images: Tensor) -> Pixels:
    """Turn float (n, 3, H, W) in [-1, 1] into uint8 (n, H, W, 3): clamped, rounded to nearest."""
    levels = ((images.detach().float() + 1) * 127.5).round().clamp(0, 255)
    return levels.to("cpu", torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def contact_sheet(images: Pixels, columns: int) -> Pixels:
    """Lay (n, H, W, 3) images out in reading order, two white pixels apart."""
    n, height, width, _ = images.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (height + 2) - 2, columns * (width + 2) - 2, 3), 255, np.uint8)
    for number, image in enumerate(images):
        y, x = number // columns * (height + 2), number % columns * (width + 2)
        sheet[y : y + height, x : x + width] = image
    return sheet


def _opaque(image: Image.Image) -> Image.Image:
    """Lay an image that may be transparent over white: hidden pixels have arbitrary colours."""
    if not image.has_transparency_data:
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
