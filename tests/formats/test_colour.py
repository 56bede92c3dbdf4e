"""Colours come out as seen: profiles as lcms applies them, 16 bits, transparency of all depths."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from patchdm.formats.colour import to_srgb
from patchdm.formats.images import Pixels, fit, read_image, read_views
from tests.formats.hostile import chunk, png, save
from tests.formats.profiles import PROFILES, cmyk_profile, grey_profile, into, rgb_profile, seen
from tests.photographs import photograph

PICTURE = Image.fromarray(photograph(5))
LOSSLESS = {"PNG": {}, "TIFF": {}, "WEBP": {"lossless": True}}
LOSSY = {"JPEG": {"quality": 98, "subsampling": 0}, "AVIF": {"quality": 98, "subsampling": "4:4:4"}}


def read(content: bytes) -> np.ndarray:
    return read_image(io.BytesIO(content)).astype(int)


@pytest.mark.parametrize("image_format", LOSSLESS | LOSSY)
@pytest.mark.parametrize("name", PROFILES)
def test_profiles_are_applied_as_lcms_does(name: str, image_format: str) -> None:
    profile = PROFILES[name]
    stored = into(PICTURE, profile)
    plain = np.asarray(stored).astype(int)
    assert np.abs(plain - np.asarray(PICTURE)).max() > 8  # else this would prove nothing
    options = (LOSSLESS | LOSSY)[image_format]
    content = save(stored, image_format, icc_profile=profile, **options)
    found = read(content)
    decoded = Image.open(io.BytesIO(content)).convert("RGB")
    assert np.abs(found - seen(decoded, profile)).max() <= 3
    if image_format in LOSSLESS and name != "linear":  # 8 linear bits have few dark levels
        assert np.abs(found - np.asarray(PICTURE)).max() <= 3
    (fitted,), _ = read_views(io.BytesIO(content), 40, 20)
    np.testing.assert_array_equal(fitted, fit(found.astype(np.uint8), 40, 20))


def test_srgb_itself_moves_no_level() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    found = read(save(PICTURE, "PNG", icc_profile=srgb))
    np.testing.assert_array_equal(found, np.asarray(PICTURE))


@pytest.mark.parametrize("gamma", [1.0, 1.8])
@pytest.mark.parametrize("image_format", LOSSLESS)
def test_grey_with_a_profile_of_grey_or_of_colours(image_format: str, gamma: float) -> None:
    grey = PICTURE.convert("L")
    options = LOSSLESS[image_format]
    as_grey, as_colours = grey_profile(gamma), rgb_profile("srgb", gamma)
    expected = seen(grey, as_grey)
    assert np.abs(expected - np.asarray(grey)[..., None]).max() > 8
    if image_format != "WEBP":  # which has no grey
        found = read(save(grey, image_format, icc_profile=as_grey, **options))
        assert np.abs(found - expected).max() <= 1
    found = read(save(grey, image_format, icc_profile=as_colours, **options))
    assert np.abs(found - expected).max() <= 2


@pytest.mark.parametrize("image_format", ["JPEG", "TIFF"])
def test_inks_with_a_profile(image_format: str) -> None:
    inks, profile = PICTURE.convert("CMYK"), cmyk_profile()
    content = save(inks, image_format, icc_profile=profile, **LOSSY.get(image_format, {}))
    stored = Image.open(io.BytesIO(content))
    expected = seen(stored.copy(), profile)
    assert np.abs(expected - np.asarray(stored.convert("RGB"))).max() > 8
    assert np.abs(read(content) - expected).max() <= 3


def test_palettes_and_alpha_with_a_profile() -> None:
    profile = PROFILES["Adobe RGB"]
    stored = into(PICTURE, profile)
    palette = stored.quantize(64)
    expected = seen(palette.convert("RGB"), profile)
    assert np.abs(read(save(palette, "PNG", icc_profile=profile)) - expected).max() <= 1
    half = stored.copy()
    half.putalpha(128)
    expected = (seen(stored, profile) * 128 + 255 * 127) / 255
    assert np.abs(read(save(half, "PNG", icc_profile=profile)) - expected).max() <= 2


def broken_profiles() -> dict[str, bytes]:
    whole = PROFILES["linear"]
    at = whole.index(b"curv", 200)
    return {
        "cut": whole[:200],
        "header": whole[:128],
        "without a curve": whole.replace(b"rTRC", b"xTRC", 1),
        "without primaries": whole.replace(b"gXYZ", b"xXYZ", 1),
        "no acsp": whole.replace(b"acsp", b"xxxx"),
        "rubbish": whole[:132] + bytes(reversed(whole[132:])),
        "other curve": whole[:at] + b"text" + whole[at + 4 :],
        "of grey": grey_profile(1.0),
        "of inks": cmyk_profile(),
        "a link": whole.replace(b"mntr", b"link"),
        "black alone": whole.replace(b"XYZ \0\0\0\0", b"XYZ \0\0\0\0" + bytes(12))[: len(whole)],
        "endless": whole + bytes(2**23),
    }


@pytest.mark.parametrize("name", broken_profiles())
def test_a_broken_profile_is_passed_over(name: str) -> None:
    content = save(PICTURE, "TIFF", icc_profile=broken_profiles()[name])
    np.testing.assert_array_equal(read(content), np.asarray(PICTURE))


def test_16_linear_bits_of_grey_keep_their_dark_levels() -> None:
    linear = np.linspace(0, 65535, 96).round().astype(np.uint16)[None].repeat(8, axis=0)
    linear[4:] //= 128  # below two levels of 8 bits
    share = linear / 65535
    levels = np.where(share <= 0.0031308, 12.92 * share, 1.055 * share ** (1 / 2.4) - 0.055) * 255
    found = read(save(Image.fromarray(linear), "PNG", icc_profile=grey_profile(1.0)))
    assert np.abs(found - levels[..., None]).max() <= 2


def deep_png(pixels: np.ndarray, depth: int, colour: int, key: list[int]) -> bytes:
    """Return a PNG with a transparent level, of rows that are packed already."""
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    chunks = chunk(b"tRNS", struct.pack(f">{len(key)}H", *key)), chunk(b"IDAT", zlib.compress(rows))
    width = pixels[0].nbytes * 8 // depth // {0: 1, 2: 3}[colour]
    return png(width, len(pixels), *chunks, depth=depth, colour=colour)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_grey_keeps_its_transparent_level_at_all_depths(depth: int) -> None:
    top = 2**depth - 1
    levels = np.arange(16).reshape(2, 8) * (1 if depth == 4 else 257 if depth == 16 else 7) & top
    key = int(levels[1, 3])
    if depth == 16:
        packed = levels.astype(">u2")
        levels[0, 0] = packed[0, 0] = key + 1  # no other level than the key is transparent
    else:
        bits = (levels[..., None] >> np.arange(depth)[::-1]) & 1
        packed = np.packbits(bits.reshape(2, -1), axis=1)
    found = read(deep_png(packed, depth, 0, [key]))
    expected = np.where(levels == key, 255, levels * 255 // top)
    assert np.abs(found - expected[..., None]).max() <= (1 if depth == 16 else 0)
    assert (levels == key).sum() < levels.size


def test_16_bits_of_colours_keep_their_transparent_colour() -> None:
    pixels = np.array([[[0x1234, 0x5678, 0x9ABC], [0x2234, 0x5678, 0x9ABC]]], ">u2")
    found = read(deep_png(pixels, 16, 2, [0x1234, 0x5678, 0x9ABC]))
    assert found[0].tolist() == [[255, 255, 255], [0x22, 0x56, 0x9A]]


def tiff(pixels: np.ndarray, **changes: int) -> bytes:
    """Return a TIFF of an array whose first directory has other values in some tags."""
    tags = {int(name[1:]): value for name, value in changes.items()}
    return save(Image.fromarray(pixels), "TIFF", tiffinfo=tags)


def test_grey_of_tiff_in_all_its_kinds() -> None:
    grey = np.asarray(PICTURE.convert("L"))
    deep = grey.astype(np.uint16) * 257
    for pixels in (grey, deep):
        found = read(tiff(pixels))
        np.testing.assert_array_equal(found, np.stack([grey] * 3, axis=-1))
    white_is_zero = bytearray(save(Image.fromarray(65535 - deep), "TIFF"))
    at = white_is_zero.index(struct.pack("<HHI", 262, 3, 1))
    white_is_zero[at + 8] = 0
    np.testing.assert_array_equal(read(bytes(white_is_zero)), np.stack([grey] * 3, axis=-1))


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_levels_without_a_white_are_refused(kind: type) -> None:
    content = save(Image.fromarray(np.asarray(PICTURE.convert("L")).astype(kind)), "TIFF")
    with pytest.raises(Exception, match="expected 8 or 16 bits") as error:
        read_image(io.BytesIO(content), name="a.tif")
    assert str(error.value).startswith("a.tif: ")


def test_lab_is_converted() -> None:
    lab = ImageCms.createProfile("LAB")
    stored = ImageCms.profileToProfile(
        PICTURE, ImageCms.createProfile("sRGB"), lab, outputMode="LAB"
    )
    assert stored
    found = read(save(stored, "TIFF"))
    assert np.abs(found - np.asarray(PICTURE)).mean() < 2


def test_open_images_are_seen_the_same_way() -> None:
    profile = PROFILES["Display P3"]
    content = save(into(PICTURE, profile), "PNG", icc_profile=profile)
    found: Pixels = np.asarray(to_srgb(Image.open(io.BytesIO(content))))
    np.testing.assert_array_equal(found, read(content))
