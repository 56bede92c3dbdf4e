"""Reading, fitting, writing and converting images."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from patchdm.errors import PatchDMError
from patchdm.formats import images
from patchdm.formats.images import fit, read_image, read_views, save_png
from patchdm.formats.tensors import to_tensor, to_uint8
from tests.photographs import encoded, photograph


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
def test_every_cut_of_a_file_is_an_error_that_names_it(tmp_path: Path, image_format: str) -> None:
    path = tmp_path / "cut.img"
    whole = encoded(photograph(9), image_format)
    path.write_bytes(whole)
    assert np.abs(read_image(path).astype(int) - photograph(9)).mean() < 6
    for size in range(0, len(whole) - 16, len(whole) // 50):
        path.write_bytes(whole[:size])
        with pytest.raises(PatchDMError, match=r"cut\.img: (damaged|found no) image") as error:
            read_image(path)
        assert "\n" not in str(error.value)


def test_png_keeps_pixels_and_gives_equal_bytes(tmp_path: Path) -> None:
    save_png(tmp_path / "a.png", photograph(0))
    save_png(tmp_path / "b.png", photograph(0))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), photograph(0))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PatchDMError, match=r"gone\.jpg: not found"):
        read_image(tmp_path / "gone.jpg")


def test_text_named_jpg_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("<html>404 Not Found</html>\n" * 50)
    with pytest.raises(PatchDMError, match=r"text\.jpg: found no image, it begins .*expected JPEG"):
        read_image(tmp_path / "text.jpg")


def test_formats_with_a_history_of_holes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "image.jpg").write_bytes(encoded(photograph(0), "GIF"))
    with pytest.raises(PatchDMError, match=r"image\.jpg: found no image"):
        read_image(tmp_path / "image.jpg")


@pytest.mark.parametrize("side", [9_000, 10_000, 60_000])  # below, above and far above Pillow's
def test_decompression_bomb_is_refused_before_it_is_decoded(tmp_path: Path, side: int) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(10_000_000), 9)
    path = tmp_path / "bomb.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )
    with (
        warnings.catch_warnings(),
        pytest.raises(PatchDMError, match=r"bomb\.png: found .* pixels"),
    ):
        warnings.simplefilter("error")
        read_image(path)


def test_pixel_limit_allows_its_own_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_png(tmp_path / "a.png", photograph(0))
    monkeypatch.setattr(images, "MAX_PIXELS", 96 * 48)
    assert read_image(tmp_path / "a.png").shape == (48, 96, 3)
    monkeypatch.setattr(images, "MAX_PIXELS", 96 * 48 - 1)
    with pytest.raises(PatchDMError, match="found 96 x 48 pixels, the limit is 4607"):
        read_image(tmp_path / "a.png")


def test_other_colours_become_rgb(tmp_path: Path) -> None:
    colour = Image.fromarray(photograph(3))
    grey = np.asarray(colour.convert("L"))
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), np.stack([grey] * 3, axis=-1))

    clear = np.dstack([photograph(3), np.full((48, 96), 255, np.uint8)])
    clear[:10, :, 3] = 0
    Image.fromarray(clear).save(tmp_path / "clear.png")
    found = read_image(tmp_path / "clear.png")
    assert (found[:10] == 255).all()
    np.testing.assert_array_equal(found[10:], photograph(3)[10:])

    deep = grey.astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(
        read_image(tmp_path / "deep.png"), read_image(tmp_path / "grey.png")
    )


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated clockwise
    Image.fromarray(photograph(4)).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "turned.png"), np.rot90(photograph(4), -1))


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
def test_reading_and_fitting_at_once_changes_no_pixel(tmp_path: Path, image_format: str) -> None:
    path = tmp_path / "image"
    path.write_bytes(encoded(photograph(5, 512, 256), image_format))
    (fitted,), size = read_views(path, 60, 32)
    assert size == (512, 256)
    np.testing.assert_array_equal(fitted, fit(read_image(path), 60, 32))


@pytest.mark.parametrize(
    ("times", "other_filter"),
    [
        (2, Image.Resampling.BILINEAR),
        (2.5, Image.Resampling.BILINEAR),
        (4, Image.Resampling.BICUBIC),
        (8, Image.Resampling.BICUBIC),
    ],
)
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("number", [7, 70])
def test_a_large_jpeg_is_halved_by_its_decoder_without_harm(
    tmp_path: Path, number: int, orientation: int, times: float, other_filter: Image.Resampling
) -> None:
    """No further from the exact result than an antialiased filter that serves as well."""
    large = Image.fromarray(photograph(number, 512, 256)).resize((2048, 1024))
    exif = Image.Exif()
    exif[0x0112] = orientation
    large.save(tmp_path / "large.jpg", quality=92, exif=exif)
    whole = read_image(tmp_path / "large.jpg")
    width, height = int(whole.shape[1] / times), int(whole.shape[1] / times / 2)
    (fitted,), size = read_views(tmp_path / "large.jpg", width, height)
    assert size == whole.shape[1::-1]
    exact = fit(whole, width, height).astype(int)
    other = ImageOps.fit(Image.fromarray(whole), (width, height), other_filter)
    assert 0 < np.abs(fitted - exact).mean() < np.abs(np.asarray(other) - exact).mean()


def test_a_large_jpeg_is_not_halved_to_less_than_its_view(tmp_path: Path) -> None:
    Image.fromarray(photograph(7, 512, 256)).resize((2048, 1024)).save(tmp_path / "large.jpg")
    (fitted,), _ = read_views(tmp_path / "large.jpg", 1026, 513)
    np.testing.assert_array_equal(fitted, fit(read_image(tmp_path / "large.jpg"), 1026, 513))


@pytest.mark.parametrize(("width", "height"), [(64, 32), (32, 64), (200, 40)])
def test_fit_covers_and_cuts_the_centre(width: int, height: int) -> None:
    image = np.zeros((60, 120, 3), np.uint8)
    image[:, :60, 0] = 255  # left half red
    image[:30, :, 1] = 255  # upper half green
    fitted = fit(image, width, height)
    assert fitted.shape == (height, width, 3)
    assert fitted[:, : width // 2 - 4, 0].min() > 240
    assert fitted[:, width // 2 + 4 :, 0].max() < 15
    assert fitted[: height // 2 - 4, :, 1].min() > 240
    assert fitted[height // 2 + 4 :, :, 1].max() < 15


def test_fit_is_antialiased() -> None:
    fine = np.zeros((256, 512, 3), np.uint8)
    fine[:, ::3] = 255  # finer than the result can show: an even grey is right
    assert np.ptp(fit(fine, 64, 32)[:, 2:-2].astype(int)) <= 4


def test_tensors_and_pixels_convert_without_loss() -> None:
    every_level = np.arange(256, dtype=np.uint8).reshape(1, 8, 32, 1).repeat(3, axis=3)
    tensor = to_tensor(every_level)
    assert tensor.shape == (1, 3, 8, 32)
    assert tensor.is_contiguous()
    assert (tensor.min(), tensor.max()) == (-1, 1)
    np.testing.assert_array_equal(to_uint8(tensor), every_level)


def test_pixels_are_clamped_and_rounded() -> None:
    values = torch.tensor([-9.0, -1.0, -1 + 0.6 / 127.5, 0.999, 1.0, 2.5])
    pixels = to_uint8(values.reshape(1, 1, 1, 6).expand(1, 3, 1, 6))
    assert pixels[0, 0, :, 1].tolist() == [0, 0, 1, 255, 255, 255]
