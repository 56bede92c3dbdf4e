"""Photographs of any format through an upload: what is known of them comes back to the bit."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps
from starlette.testclient import TestClient

from patchdm.formats.images import Pixels
from tests.app.asking import ended, given, pixels, posted
from tests.formats.profiles import PROFILES, into, seen
from tests.photographs import photograph

HEIGHT, WIDTH = 24, 40
PHOTO = photograph(3, WIDTH, HEIGHT)
DEEP = PHOTO.astype(np.uint16) * 257 + np.random.default_rng(0).integers(-40, 40, PHOTO.shape)
DEEP16 = DEEP.clip(0, 65535).astype(np.uint16)


def saved(image: Image.Image, image_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def deep(suffix: str) -> bytes:
    """Return 16 bits per channel, as raw converters and scanners write them."""
    written, content = cv2.imencode(suffix, DEEP16[..., ::-1])
    assert written
    return content.tobytes()


def decoded(content: bytes) -> Pixels:
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB"))


def turned() -> bytes:
    """Return a photograph of a camera held upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(Image.fromarray(PHOTO), "JPEG", exif=exif, quality=95)


def files() -> dict[str, tuple[bytes, Pixels, int]]:
    """Return files by name, with the pixels that are seen in them, and how exactly."""
    image = Image.fromarray(PHOTO)
    wide = into(image, PROFILES["Display P3"])
    profiled = saved(wide, "PNG", icc_profile=PROFILES["Display P3"])
    srgb = {
        "PNG": saved(image, "PNG"),
        "TIFF": saved(image, "TIFF", compression="tiff_lzw"),
        "lossless WebP": saved(image, "WEBP", lossless=True),
    }
    jpeg, heic = saved(image, "JPEG", quality=95), saved(image, "HEIF", quality=-1)
    return {name: (content, PHOTO, 0) for name, content in srgb.items()} | {
        "JPEG": (jpeg, decoded(jpeg), 0),
        "JPEG, turned by its EXIF": (turned(), decoded(turned()), 0),
        "HEIC": (heic, PHOTO, 12),  # its colours are those of a video
        "PNG with a profile": (profiled, seen(wide, PROFILES["Display P3"]).astype(np.uint8), 1),
        "PNG of 16 bits": (deep(".png"), PHOTO, 1),
        "TIFF of 16 bits": (deep(".tiff"), PHOTO, 1),
    }


@pytest.mark.parametrize("name", files())
def test_known_pixels_are_what_was_seen(client: TestClient, name: str):
    content, expected, levels = files()[name]
    image = given(client, content)
    taken = pixels(client, f"/api/images/{image}.png")
    assert taken.shape == expected.shape
    assert np.abs(taken.astype(int) - expected).max() <= levels
    job = {"kind": "outpaint", "image": image, "left": 8, "seeds": [0], "steps": 1}
    (result,) = ended(client, posted(client, job))["results"]
    np.testing.assert_array_equal(pixels(client, result["url"])[:, 8:], taken)


def test_a_turned_photograph_stands_upright(client: TestClient):
    response = client.post("/api/images", content=turned()).json()
    assert (response["width"], response["height"]) == (HEIGHT, WIDTH)
