"""Files that call themselves images: odd, damaged, or out to do harm. Each with what is right."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from patchdm.formats.images import Pixels
from tests.photographs import encoded, photograph

PICTURE = Image.fromarray(photograph(3))


class Case(NamedTuple):
    """A file and what reading it must give."""

    name: str
    content: bytes
    expected: Pixels | str
    """Pixels, met to a few levels, or a part of the error."""


def save(image: Image.Image, image_format: str, **options: Any) -> bytes:
    """Return an image as the bytes of a file."""
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes, depth: int = 8, colour: int = 2) -> bytes:
    """Return a PNG that announces a size, with chunks of any content."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join([chunk(b"IHDR", header), *chunks, chunk(b"IEND", b"")])


def with_size(jpeg: bytes, width: int, height: int) -> bytes:
    """Return a JPEG whose frame header announces another size."""
    place = max(jpeg.find(b"\xff\xc0"), jpeg.find(b"\xff\xc2"))
    return jpeg[: place + 5] + struct.pack(">HH", height, width) + jpeg[place + 9 :]


def without_segment(jpeg: bytes, marker: bytes) -> bytes:
    """Return a JPEG without its first segment of a marker."""
    place = jpeg.index(marker)
    length = struct.unpack(">H", jpeg[place + 2 : place + 4])[0]
    return jpeg[:place] + jpeg[place + 2 + length :]


def cases() -> Iterator[Case]:
    """Yield all of them."""
    for part in (_odd, _turned, _broken_metadata, _no_images, _truncated, _bombs, _nonsense):
        yield from part()


def _odd() -> Iterator[Case]:
    """Pictures that differ from 8-bit RGB."""
    rgb, grey = np.asarray(PICTURE), np.asarray(PICTURE.convert("L"))
    greys = np.repeat(grey[:, :, None], 3, axis=2)
    half = PICTURE.copy()
    half.putalpha(128)
    mixed = (rgb.astype(int) * 128 + 255 * 127 + 127) // 255
    yield Case("grey.jpg", save(PICTURE.convert("L"), "JPEG", quality=95), greys)
    yield Case("grey.png", save(PICTURE.convert("L"), "PNG"), greys)
    yield Case("grey-alpha.png", save(PICTURE.convert("LA"), "PNG"), greys)
    yield Case("progressive.jpg", save(PICTURE, "JPEG", quality=95, progressive=True), rgb)
    for k, name in enumerate(("444", "422", "420")):
        yield Case(f"{name}.jpg", save(PICTURE, "JPEG", quality=95, subsampling=k), rgb)
    yield Case("lossless.webp", save(PICTURE, "WEBP", lossless=True), rgb)
    for image_format in ("PNG", "WEBP"):
        options = {} if image_format == "PNG" else {"lossless": True, "exact": True}
        yield Case(f"half.{image_format}", save(half, image_format, **options), mixed)
    palette = PICTURE.quantize(64)
    as_rgb = np.asarray(palette.convert("RGB"))
    yield Case("palette.png", save(palette, "PNG"), as_rgb)
    clear = np.where((np.asarray(palette) == 5)[:, :, None], 255, as_rgb)
    yield Case("palette-clear.png", save(palette, "PNG", transparency=5), clear)
    alphas = bytes([0] * 10 + [255] * 54)
    clear = np.where((np.asarray(palette) < 10)[:, :, None], 255, as_rgb)
    yield Case("palette-alpha.png", save(palette, "PNG", transparency=alphas), clear)
    bits = PICTURE.convert("1")
    yield Case("bits.png", save(bits, "PNG"), np.asarray(bits.convert("RGB")))
    for name, level in (("grey16", 1), ("rgb16", 3), ("grey16-alpha", 2), ("rgb16-alpha", 4)):
        deep = np.repeat(grey[:, :, None], level, axis=2).astype(">u2") * 257
        if level in (2, 4):
            deep[:, :, -1] = 65535
        rows = b"".join(b"\0" + row.tobytes() for row in deep)
        colour = {1: 0, 3: 2, 2: 4, 4: 6}[level]
        data = chunk(b"IDAT", zlib.compress(rows))
        yield Case(f"{name}.png", png(96, 48, data, depth=16, colour=colour), greys)
    inks = PICTURE.convert("CMYK")
    naive = np.asarray(inks.convert("RGB"))
    adobe = save(inks, "JPEG", quality=95)
    yield Case("cmyk-adobe.jpg", adobe, naive)
    plain = save(Image.fromarray(255 - np.asarray(inks), "CMYK"), "JPEG", quality=95)
    yield Case("cmyk-plain.jpg", without_segment(plain, b"\xff\xee"), naive)
    turned = PICTURE.rotate(180)
    for image_format in ("PNG", "WEBP"):
        options = {"save_all": True, "append_images": [turned], "lossless": True}
        yield Case(f"animated.{image_format}", save(PICTURE, image_format, **options), rgb)


def _turned() -> Iterator[Case]:
    """Every EXIF orientation, and such as there are not."""
    rgb = np.asarray(PICTURE)
    upright = [rgb, rgb[:, ::-1], rgb[::-1, ::-1], rgb[::-1], rgb.swapaxes(0, 1)]
    upright += [np.rot90(rgb, -1), rgb[::-1, ::-1].swapaxes(0, 1), np.rot90(rgb, 1)]
    for orientation in range(10):
        exif = Image.Exif()
        exif[0x0112] = orientation
        expected = upright[orientation - 1] if 1 <= orientation <= 8 else rgb
        for image_format in ("JPEG", "PNG", "WEBP"):
            content = save(PICTURE, image_format, exif=exif, quality=95)
            yield Case(f"turned-{orientation}.{image_format}", content, expected)


def _broken_metadata() -> Iterator[Case]:
    """EXIF and colour profiles of rubbish do not spoil a picture."""
    rgb = np.asarray(PICTURE)
    rubbish = [b"", b"II*\0", b"MM\0*\xff\xff\xff\xff", b"\0" * 40, bytes(range(256))]
    rubbish.append(b"II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x03\0\xff\xff\xff\xff" * 9)
    for k, exif in enumerate(rubbish):
        for image_format in ("JPEG", "PNG", "WEBP"):
            content = save(PICTURE, image_format, exif=b"Exif\0\0" + exif, quality=95)
            yield Case(f"exif-{k}.{image_format}", content, rgb)
    for k, profile in enumerate((b"x", b"\0" * 128, bytes(range(256)) * 40)):
        for image_format in ("JPEG", "PNG", "WEBP"):
            content = save(PICTURE, image_format, icc_profile=profile, quality=95)
            yield Case(f"icc-{k}.{image_format}", content, rgb)
    whole = save(PICTURE, "PNG")
    late = whole[:33] + chunk(b"iCCP", b"name\0\0not deflated") + whole[33:]
    yield Case("icc-not-deflated.png", late, rgb)


def _no_images() -> Iterator[Case]:
    """What is no image that is read, whatever its name."""
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    for name, content in {
        "empty": b"",
        "one-byte": b"\xff",
        "page": b"<!DOCTYPE html><title>404 Not Found</title>" * 30,
        "drawing": svg,
        "text": b"not an image",
        "zeros": bytes(5000),
        "script": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run",
        "zip": b"PK\x03\x04" + bytes(100),
        "magic-jpeg": b"\xff\xd8\xff",
        "magic-png": b"\x89PNG\r\n\x1a\n",
        "magic-webp": b"RIFF\x10\0\0\0WEBP",
    }.items():
        yield Case(f"{name}.jpg", content, "found no image")
    for image_format in ("GIF", "BMP", "ICO", "PPM", "TGA", "PDF", "JPEG2000"):
        yield Case(f"{image_format}.jpg", save(PICTURE, image_format), "found no image")


def _truncated() -> Iterator[Case]:
    """Files that end early, at every kind of place."""
    for image_format in ("JPEG", "PNG", "WEBP"):
        whole = encoded(photograph(9), image_format)
        for share in (0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98):
            name = f"cut-{share}.{image_format}"
            yield Case(name, whole[: int(len(whole) * share)], "image")
    whole = save(PICTURE, "JPEG", progressive=True)
    for share in (0.4, 0.8):
        yield Case(f"cut-{share}.progressive", whole[: int(len(whole) * share)], "damaged image")
    animated = save(PICTURE, "PNG", save_all=True, append_images=[PICTURE.rotate(90)])
    yield Case("cut-animated.png", animated[: len(animated) // 4], "damaged image")


def _bombs() -> Iterator[Case]:
    """A few bytes that announce, or unfold to, very much."""
    data = chunk(b"IDAT", zlib.compress(bytes(10**7), 9))
    for width, height in ((9000, 9000), (60000, 60000), (2**31 - 1, 1), (2**31 - 1, 2**31 - 1)):
        yield Case(f"bomb-{width}-{height}.png", png(width, height, data), "pixels")
    jpeg = encoded(photograph(0))
    yield Case("bomb.jpg", with_size(jpeg, 65500, 65500), "found more than 67108864 pixels")
    huge = bytearray(save(PICTURE, "WEBP", lossless=True))
    huge[21:25] = struct.pack("<I", (16383 - 1) | (16383 - 1) << 14)
    yield Case("bomb.webp", bytes(huge), "found more than 67108864 pixels")
    for kind in (b"zTXt", b"iCCP"):
        inflated = chunk(kind, b"name\0\0" + zlib.compress(bytes(2**26), 9))
        yield Case(f"unfolds-{kind.decode()}.png", png(8, 8, inflated, data), "too large")
    texts = [chunk(b"tEXt", b"name\0" + b"x" * 2**16) for _ in range(1200)]
    yield Case("texts.png", png(8, 8, *texts, data), "Too much memory")


def _nonsense() -> Iterator[Case]:
    """Headers that contradict themselves or the data."""
    for width, height in ((0, 8), (8, 0), (0, 0)):
        yield Case(f"{width}x{height}.png", png(width, height, chunk(b"IDAT", b"")), "image")
    yield Case("no-data.png", png(8, 8), "damaged image")
    for colour in (1, 5, 7, 255):
        content = png(8, 8, chunk(b"IDAT", zlib.compress(bytes(500))), colour=colour)
        yield Case(f"colour-{colour}.png", content, "image")
    content = png(8, 8, chunk(b"IDAT", zlib.compress(bytes(500))), depth=3)
    yield Case("depth-3.png", content, "image")
    content = png(8, 8, chunk(b"IDAT", zlib.compress(bytes(500))), colour=3)
    yield Case("no-palette.png", content, "damaged image: AssertionError")
    whole = save(PICTURE, "PNG")
    yield Case("no-pixels.png", whole.replace(b"IDAT", b"IDAU", 1), "found no image")
    place = whole.index(b"IHDR") + 20  # a bit of the checksum
    flipped = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
    yield Case("wrong-checksum.png", flipped, "image")
    jpeg = encoded(photograph(0))
    yield Case("no-tables.jpg", without_segment(jpeg, b"\xff\xdb"), "damaged image")
    yield Case("0x0.jpg", with_size(jpeg, 0, 0), "image")
    yield Case("twice.jpg", jpeg + jpeg, photograph(0))
    yield Case("tail.jpg", jpeg + b"<?php system($_GET[0]); ?>" * 99, photograph(0))
