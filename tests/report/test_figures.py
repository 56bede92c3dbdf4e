from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from patchdm.report import figures
from tests.photographs import photograph
from tests.report.pages import pixels


def test_a_sheet_is_roughly_square_and_keeps_every_pixel() -> None:
    images = np.stack([photograph(number, 64, 32) for number in range(8)])
    sheet = pixels(figures.sheet(images))
    assert sheet.shape == (4 * 5 * 32 + 3 * 2, 2 * 5 * 64 + 2, 3)  # 2 columns, 5 times as large
    last = sheet[-5 * 32 :, -5 * 64 :]
    np.testing.assert_array_equal(last[::5, ::5], images[7])
    np.testing.assert_array_equal(last[4::5, 3::5], images[7])


def test_large_images_are_shrunk_to_the_sheet() -> None:
    images = np.stack([photograph(number, 512, 256) for number in range(8)])
    sheet = pixels(figures.sheet(images))
    assert 0.95 * figures.SHEET_WIDTH < sheet.shape[1] <= figures.SHEET_WIDTH
    np.testing.assert_allclose(sheet[:190, :382].mean((0, 1)), images[0].mean((0, 1)), atol=2)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_few_images_make_a_sheet_too(count: int) -> None:
    images = np.stack([photograph(number, 32, 48) for number in range(count)])
    assert pixels(figures.sheet(images)).shape[1] <= figures.SHEET_WIDTH


def test_a_picture_is_enlarged_by_a_whole_factor() -> None:
    image = photograph(0, 100, 50)
    shown = pixels(figures.picture(image))
    np.testing.assert_array_equal(shown, image.repeat(7, axis=0).repeat(7, axis=1))


def _draw_all() -> list[bytes]:
    steps = np.arange(31.0)
    curve = pd.Series([2.0, 0.5, 0.3], index=[100, 200, 300])
    return [
        figures.curves({"loss": curve, "loss, plain": curve / 2}, x_label="seen", log=True),
        figures.curves({"rate": curve.iloc[:1]}, x_label="seen", log=False),
        figures.profiles({"samples": steps, "real": steps / 2}, 8, "x"),
        figures.border_profiles({"full": steps[:8], "real": steps[:8] / 2}, 8),
        figures.bars({"full": [1.0, 2.0], "no-code": [3.0, 5.0]}, "FID", 1.5),
        figures.step_map(np.outer(np.arange(15.0), steps), 8, highest=20),
    ]


def test_plots_are_deterministic_and_carry_no_metadata() -> None:
    first = _draw_all()
    assert len(set(first)) == len(first)
    assert _draw_all() == first
    for png in first:
        with Image.open(io.BytesIO(png)) as image:
            assert set(image.info) <= {"dpi"}


def test_a_curve_of_one_point_can_be_seen() -> None:
    point = pd.Series([1.0], index=[100])
    nothing = pd.Series([np.nan], index=[100])
    drawn, empty = (
        pixels(figures.curves({"rate": values}, x_label="seen", log=False)).astype(int)
        for values in (point, nothing)
    )
    red = [(image[..., 0] - image[..., 2] > 100).sum() for image in (drawn, empty)]
    assert red[0] > 20
    assert red[1] == 0


def test_the_map_shows_where_the_steps_are() -> None:
    steps = np.zeros((31, 63))
    steps[:, 40] = 9
    image = pixels(figures.step_map(steps, 8, highest=9)).astype(int)
    black = (image.max(axis=2) < 30).mean(axis=0)
    bright = ((image[..., 0] > 240) & (image[..., 2] < 215)).mean(axis=0)
    canvas, line = (black > 0.5).nonzero()[0], (bright > 0.5).nonzero()[0]
    place = (line.mean() - canvas[0]) / (canvas[-1] - canvas[0])
    assert place == pytest.approx(40.5 / 63, abs=0.01)


def test_images_without_any_step_have_a_map() -> None:
    assert pixels(figures.step_map(np.zeros((15, 31)), 8, highest=0.0)).shape[1] == 832


def test_a_crop_is_magnified_and_marked_outside_its_pixels() -> None:
    image = photograph(0, 32, 24)
    crop = pixels(figures.crops(image[None], 8)).astype(int)
    margin = figures.CROP_MARGIN
    inside = crop[margin:-margin, margin:-margin]
    np.testing.assert_array_equal(inside[::8, ::8], image[:16, :16])  # around the corner (8, 8)
    np.testing.assert_array_equal(inside[7::8, 7::8], image[:16, :16])
    red, blue = (crop[..., 0] - crop[..., 2] > 100), (crop[..., 2] - crop[..., 0] > 50)
    shifted, padded = (
        [margin + 8 * place + side for place in places for side in (-1, 0)]  # either side of it
        for places in ([8], [4, 12])
    )
    for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        assert np.flatnonzero(red[edge]).tolist() == shifted
        assert np.flatnonzero(blue[edge]).tolist() == padded


def test_crops_show_corners_of_both_grids_in_turn() -> None:
    """Patches of 32: a region of 32 pixels around a corner has no border of the other grid."""
    crops = pixels(figures.crops(np.zeros((2, 64, 96, 3), np.uint8), 32)).astype(int)
    first, second = crops[:, :148], crops[:, 150:]
    for crop, channel in ((first, 0), (second, 2)):
        strip = crop[0]
        assert ((strip[:, channel] - strip[:, 2 - channel]) > 50).any()
        assert not ((strip[:, 2 - channel] - strip[:, channel]) > 50).any()


@pytest.mark.parametrize(("height", "width"), [(8, 32), (32, 8)])
def test_crops_of_images_one_patch_high_or_wide_have_no_shifted_border_along(
    height: int, width: int
) -> None:
    images = np.zeros((2, height, width, 3), np.uint8)
    crops = pixels(figures.crops(images, 8)).astype(int)
    red = crops[..., 0] - crops[..., 2] > 100
    assert red[0].any() == (width > height)
    assert red[:, 0].any() == (height > width)


def test_large_patches_are_magnified_four_times() -> None:
    crops = pixels(figures.crops(np.zeros((9, 128, 256, 3), np.uint8), 64))
    assert (crops == 0).all(axis=2).sum() == 9 * (4 * 32) ** 2
    assert crops.shape[1] <= figures.ROW_WIDTH


def test_bars_show_every_seed_and_how_far_they_spread() -> None:
    def reds(values: list[float]) -> np.ndarray:
        image = pixels(figures.bars({"full": values}, "FID")).astype(int)
        return (image[..., 0] - image[..., 2] > 100).any(axis=0)

    def runs(mask: np.ndarray) -> int:
        return int((np.diff(mask.astype(int)) == 1).sum())

    assert [runs(reds(values)) for values in ([10.0], [10.0, 20.0], [10.0, 15.0, 20.0])] == [
        1,
        2,
        3,
    ]
    alone, apart = (figures.bars({"full": values}, "FID") for values in ([15.0], [10.0, 20.0]))
    assert alone != apart


def test_more_images_than_fit_make_a_larger_sheet() -> None:
    sheet = pixels(figures.sheet(np.zeros((90_000, 4, 4, 3), np.uint8)))
    assert sheet.shape[1] > figures.SHEET_WIDTH
