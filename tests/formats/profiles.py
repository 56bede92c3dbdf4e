"""ICC profiles for tests: primaries with a gamma, grey with a gamma, and one of printers."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image, ImageCms

D50 = (0.9642, 1.0, 0.8249)
# D50 XYZ of red, green and blue
_SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71690, 0.09708), (0.14307, 0.06061, 0.71410))
_ADOBE = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
_P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
_PROPHOTO = ((0.79767, 0.28804, 0.0), (0.13519, 0.71188, 0.0), (0.03135, 0.00009, 0.82521))
_PRIMARIES = {"srgb": _SRGB, "adobe": _ADOBE, "p3": _P3, "prophoto": _PROPHOTO}


def _fixed(*numbers: float) -> bytes:
    return b"".join(struct.pack(">i", round(number * 65536)) for number in numbers)


def _profile(device: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    text = b"made by a test\0"
    named = b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(79)
    tags = {b"desc": named, b"wtpt": b"XYZ \0\0\0\0" + _fixed(*D50)} | tags
    at = 132 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", at + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = struct.pack(">I4sI4s4s4s", at + len(body), b"", 0x02400000, device, space, connection)
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _fixed(*D50)
    return header.ljust(128, b"\0") + table + body


def _curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def rgb_profile(primaries: str, gamma: float) -> bytes:
    """Return a profile of a screen."""
    tags = {}
    for letter, xyz in zip(b"rgb", _PRIMARIES[primaries], strict=True):
        tags[bytes([letter]) + b"XYZ"] = b"XYZ \0\0\0\0" + _fixed(*xyz)
        tags[bytes([letter]) + b"TRC"] = _curve(gamma)
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags)


def grey_profile(gamma: float) -> bytes:
    """Return a profile of grey."""
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": _curve(gamma)})


def cmyk_profile() -> bytes:
    """Return a profile of a printer whose inks are lighter than pure ones, as Lab of 16 corners."""
    corners = np.stack(np.meshgrid(*[[0, 1]] * 4, indexing="ij"), axis=-1).reshape(16, 4)
    cyan, magenta, yellow, black = corners.T
    lightness = 100 * (1 - 0.25 * cyan) * (1 - 0.4 * magenta) * (1 - 0.08 * yellow)
    lab = [lightness * (1 - 0.85 * black) * 2.55]
    lab += [128 + (1 - black) * (60 * magenta - 30 * cyan)]
    lab += [128 + (1 - black) * (70 * yellow - 40 * cyan)]
    ramp = bytes(range(256))
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1) + 4 * ramp
    lut += np.stack(lab, axis=-1).round().astype(np.uint8).tobytes() + 3 * ramp
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": lut})


PROFILES = {
    "Adobe RGB": rgb_profile("adobe", 2.2),
    "Display P3": rgb_profile("p3", 2.2),
    "ProPhoto": rgb_profile("prophoto", 1.8),
    "linear": rgb_profile("srgb", 1.0),
}


def into(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert an sRGB image to the space of a profile."""
    srgb, other = ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(io.BytesIO(profile))
    found = ImageCms.profileToProfile(image, srgb, other, renderingIntent=1, outputMode=image.mode)
    assert found
    return found


def seen(image: Image.Image, profile: bytes) -> np.ndarray:
    """Convert an image from the space of a profile to sRGB, as lcms does by default."""
    other, srgb = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
    return np.asarray(ImageCms.profileToProfile(image, other, srgb, outputMode="RGB")).astype(int)
