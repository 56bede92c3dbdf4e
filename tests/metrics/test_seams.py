from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from patchdm.formats.images import read_image
from patchdm.metrics.blur import blur8
from patchdm.metrics.seams import seam_score, step_maps


def _ramp_with_steps(step: int) -> np.ndarray:
    """A 32x64 image that rises by 1 a column, but by `step` at multiples of 16."""
    rises = np.where(np.arange(1, 64) % 16 == 0, step, 1)
    row = np.concatenate([[0], rises.cumsum()]).astype(np.uint8)
    return np.broadcast_to(row[None, None, :, None], (1, 32, 64, 3)).copy()


def test_a_known_step_at_the_borders_gives_its_ratio() -> None:
    image = _ramp_with_steps(5)
    # Vertical: 3 borders of 32 pixels step 5, 60 columns step 1. Horizontal: 1 border and
    # 30 rows of 64 pixels step 0.
    border = 3 * 32 * 5 / (3 * 32 + 64)
    interior = 60 * 32 * 1 / (60 * 32 + 30 * 64)
    assert seam_score([image], 16) == pytest.approx(border / interior)


def test_borders_of_the_padded_patches_lie_half_a_patch_off() -> None:
    image = _ramp_with_steps(5)[:, :, 8:]  # 32x56, steps at 8, 24 and 40
    border = 3 * 32 * 5 / (3 * 32 + 2 * 56)
    interior = 52 * 32 * 1 / (52 * 32 + 29 * 56)
    assert seam_score([image], 16, 8) == pytest.approx(border / interior)
    assert seam_score([image], 16) < 0.3 * border / interior


def test_a_square_of_equal_steps_has_no_seam() -> None:
    y, x = np.mgrid[:32, :32]
    image = np.repeat((2 * (x + y)).astype(np.uint8)[None, ..., None], 3, axis=-1)
    assert seam_score([image], 8) == pytest.approx(1.0)
    assert seam_score([np.zeros_like(image)], 8) == 1.0


def test_the_profile_shows_where_the_steps_are() -> None:
    across, down = step_maps([_ramp_with_steps(5), _ramp_with_steps(3)])
    columns, rows = across.mean(axis=0), down.mean(axis=1)
    assert columns.shape == (63,)
    assert rows.shape == (31,)
    assert np.flatnonzero(columns > 1).tolist() == [15, 31, 47]
    assert columns[15] == 4
    assert not rows.any()


def test_dark_to_bright_counts_like_bright_to_dark() -> None:
    image = np.zeros((1, 16, 16, 3), np.uint8)
    image[:, :, 8:] = 200
    assert seam_score([image], 8) == seam_score([255 - image], 8) == float("inf")


def test_batches_do_not_matter(landscapes: Path) -> None:
    images = np.stack([read_image(path) for path in sorted(landscapes.iterdir())])
    assert seam_score([images], 16) == pytest.approx(seam_score([images[:5], images[5:]], 16))


def test_photographs_are_near_one_and_pasted_patches_are_not(landscapes: Path) -> None:
    images = np.stack([read_image(path) for path in sorted(landscapes.iterdir())])
    assert seam_score([images], 16) == pytest.approx(1.0, abs=0.15)
    pasted = images.copy()
    pasted[:, :, 16:32] = images[::-1, :, 16:32]
    assert seam_score([pasted], 16) > 1.3


@pytest.mark.parametrize(("images", "patch_size"), [([], 8), ([np.zeros((1, 8, 8, 3))], 8)])
def test_no_image_or_no_border_is_an_error(images: list[np.ndarray], patch_size: int) -> None:
    with pytest.raises(ValueError, match="needed|expected"):
        seam_score(images, patch_size)


def test_blur_keeps_means_and_removes_detail(landscapes: Path) -> None:
    images = np.stack([read_image(path) for path in sorted(landscapes.iterdir())])
    blurred = blur8(images)
    assert blurred.shape == images.shape
    assert blurred.dtype == np.uint8
    np.testing.assert_allclose(blurred.mean((1, 2)), images.mean((1, 2)), atol=2)
    assert step_maps([blurred])[0].mean() < 0.5 * step_maps([images])[0].mean()
    flat = np.full((1, 20, 12, 3), 77, np.uint8)
    assert (blur8(flat) == flat).all()
