"""Convert decoded images of any mode to 8-bit sRGB, transparent pixels over white."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageCms

_LARGEST_PROFILE = 2**23
"""Bytes of a colour profile; profiles of printers have up to a few million."""
_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
"""Mode -> colour space of the profiles that fit it."""
_CLASSES = ("scnr", "mntr", "prtr", "spac")
"""Profiles of devices and spaces; others describe effects or links between two devices."""
_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
_INTENT = ImageCms.Intent.PERCEPTUAL
"""The usual intent for photographs. In profiles without a table for it, as those of cameras and
screens, lcms takes relative colorimetric."""
_LAB = ImageCms.buildTransform(ImageCms.createProfile("LAB"), _SRGB, "LAB", "RGB", _INTENT)
_EXACT = ImageCms.Flags.NOOPTIMIZE
"""Without it, lcms computes the dark levels of a linear curve up to 11 levels off."""
_FEWEST_LEVELS = 64
"""Between white and black; a profile with fewer is broken."""
_KEY_SCALES = {"L;2": 85, "L;4": 17}
"""Raw mode of a PNG -> factor of its levels, which Pillow does not apply to the transparent one."""


def to_srgb(image: Image.Image) -> Image.Image:
    """Decode an image of any mode as 8-bit RGB in sRGB, unturned.

    The ICC profile is applied as lcms does; a profile that is broken or of another colour space is
    ignored. Pillow decodes 16 bits of three channels to 8; a profile of about sRGB's gamma (Adobe
    RGB, Display P3, ProPhoto) then moves a level by at most one more. 16 bits of grey are converted
    in full: 8 bits would not be enough for linear levels.

    Raises:
        ValueError: the levels are floats, or integers of 32 bits, which have no white.
    """
    key_scale = _key_scale(image)
    image.load()
    profile = image.info.get("icc_profile")
    if image.mode.startswith(("I", "F")):
        return _grey16(image, profile)
    if key_scale is not None:
        key = np.asarray(image.info["transparency"]) * key_scale
        image.info["transparency"] = int(key) if key.ndim == 0 else tuple(key.astype(int).tolist())
    if image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
        image = ImageChops.invert(image)  # Pillow inverts all, but should only Adobe's
    alpha = None
    if image.has_transparency_data:  # hidden pixels have arbitrary colours
        image = image.convert("LA" if image.mode in ("1", "L", "LA", "La") else "RGBA")
        alpha = image.getchannel("A")
        image = image.convert(image.mode.removesuffix("A"))
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode not in (*_SPACES, "LAB"):
        image = image.convert("RGB")
    return _over_white(_converted(image, profile), alpha)


def _key_scale(image: Image.Image) -> float | None:
    """Return the factor of the transparent level of an image that is not decoded yet."""
    tile = getattr(image, "tile", None)  # how the file is decoded; empty afterwards
    if image.format != "PNG" or "transparency" not in image.info or not tile:
        return None
    raw_mode = tile[0].args
    return 1 / 256 if raw_mode == "RGB;16B" else _KEY_SCALES.get(raw_mode)  # Pillow drops 8 bits


def _grey16(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert grey of 12 or 16 bits: the profile's curve at 256 levels, and lines between them."""
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(258, (16,))[0]
    if image.mode == "F" or bits > 16 or tags.get(339, (1,))[0] != 1:
        raise ValueError("found floats, signed levels or 32 bits, expected 8 or 16 bits")
    top = 2**bits - 1
    levels = np.asarray(image).clip(0, top)
    ramp_8bit = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    ramp = np.asarray(_converted(ramp_8bit, profile, _EXACT))
    places = np.arange(top + 1) * (255 / top)
    curve = np.stack([np.interp(places, np.arange(256), ramp[0, :, k]) for k in range(3)], axis=-1)
    if tags.get(262) == 0:  # white is zero, which Pillow respects for 8 bits only
        curve = curve[::-1]
    rgb = (curve + 0.5).astype(np.uint8)[levels]
    key = image.info.get("transparency")
    alpha = None if key is None else Image.fromarray(np.where(levels == key, 0, 255).astype("u1"))
    return _over_white(Image.fromarray(rgb), alpha)


def _over_white(image: Image.Image, alpha: Image.Image | None) -> Image.Image:
    if alpha is None:
        return image
    return Image.composite(image, Image.new("RGB", image.size, "white"), alpha)


def _converted(
    image: Image.Image, profile: bytes | None, flags: ImageCms.Flags = ImageCms.Flags.NONE
) -> Image.Image:
    """Convert an image of mode L, RGB, CMYK or LAB to sRGB."""
    if image.mode == "LAB":
        return ImageCms.applyTransform(image, _LAB) or image
    transform = _transform(profile, image.mode, flags) if profile else None
    if profile and transform is None and image.mode == "L":  # grey with a profile of colours
        image = image.convert("RGB")
        transform = _transform(profile, "RGB", flags)
    if transform is None:
        return image if image.mode == "RGB" else image.convert("RGB")  # which would copy it
    return ImageCms.applyTransform(image, transform) or image


@lru_cache(maxsize=8)
def _transform(
    profile: bytes, mode: str, flags: ImageCms.Flags
) -> ImageCms.ImageCmsTransform | None:
    """Return the transform of a mode to sRGB; None: the profile is broken, unsuitable, or sRGB.

    Most photographs have sRGB's own profile: to convert them would take twice the time and move
    some levels by one.
    """
    if len(profile) > _LARGEST_PROFILE:
        return None
    try:
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        facts = given.profile
        if facts.xcolor_space.strip() != _SPACES[mode] or facts.device_class not in _CLASSES:
            return None
        transform = ImageCms.buildTransform(given, _SRGB, mode, "RGB", _INTENT, flags)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
    probe = _probe(mode)
    seen = np.asarray(ImageCms.applyTransform(Image.fromarray(probe, mode), transform)).astype(int)
    if np.ptp(seen, axis=(0, 1)).min() < _FEWEST_LEVELS:
        return None
    if mode != "CMYK" and np.abs(seen - probe.reshape(1, len(probe[0]), -1)).max() <= 1:
        return None
    return transform


def _probe(mode: str) -> NDArray[np.uint8]:
    """Return a row of colours across the whole space of a mode."""
    levels = np.linspace(0, 255, 9).round().astype(np.uint8)
    if mode == "L":
        return np.arange(256, dtype=np.uint8)[None]
    axes = np.meshgrid(*[levels] * len(mode), indexing="ij")
    return np.stack(axes, axis=-1).reshape(1, -1, len(mode))
