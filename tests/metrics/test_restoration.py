"""Filled holes: closed forms of the seam score, and what the other scores compare."""

from __future__ import annotations

import numpy as np
import pytest

from patchdm.metrics.extractors import load_extractor
from patchdm.metrics.masked import masked_psnr
from patchdm.metrics.restoration import mask_seam_score, restoration

RIGHT = np.zeros((8, 12), bool)
RIGHT[:, 6:] = True
HOLE = np.zeros((8, 12), bool)
HOLE[2:6, 3:9] = True


def ramp(step: int, height: int = 8, width: int = 12) -> np.ndarray:
    """Return an image whose columns are `step` levels apart."""
    row = 10 + step * np.arange(width, dtype=np.uint8)
    return np.broadcast_to(row[None, None, :, None], (1, height, width, 3)).copy()


def test_an_even_ramp_has_no_seam():
    assert mask_seam_score(ramp(4), RIGHT) == pytest.approx(1.0)
    assert mask_seam_score(ramp(0), RIGHT) == 1.0


def test_a_step_at_the_border_counts_over_the_others():
    image = ramp(4)
    image[:, :, 6:] += 8  # the border steps by 12, all others by 4
    assert mask_seam_score(image, RIGHT) == pytest.approx(3.0)
    smooth = ramp(4)
    smooth[:, :, 6:] -= 4
    assert mask_seam_score(smooth, RIGHT) == 0.0


def test_directions_count_as_often_as_the_border_has_them():
    """Rows are equal, so the hole's horizontal borders see no step, nor are any elsewhere."""
    assert mask_seam_score(ramp(4), HOLE) == pytest.approx(1.0)
    framed = ramp(0)
    framed[:, HOLE] += 20  # no step but at the border
    assert mask_seam_score(framed, HOLE) == float("inf")


def test_images_count_alike():
    seam = ramp(4)
    seam[:, :, 6:] += 8
    assert mask_seam_score(np.concatenate([ramp(4), seam]), RIGHT) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((8, 12), bool), "a mask without border"),
        (np.ones((8, 12), bool), "a mask without border"),
        (np.ones((8, 8), bool), r"found a mask \(8, 8\), expected \(8, 12\)"),
    ],
)
def test_masks_that_do_not_fit_are_named(mask: np.ndarray, message: str):
    with pytest.raises(ValueError, match=message):
        mask_seam_score(ramp(1), mask)


def test_restored_images_are_compared_with_the_originals():
    generator = np.random.default_rng(0)
    originals = generator.integers(60, 180, (3, 8, 12, 3), dtype=np.uint8)
    near, far = originals.copy(), originals.copy()
    near[:, HOLE] += 10
    far[:, HOLE] = 255
    extractor = load_extractor("efficientnet-lite0", None, "cpu")
    same, nearer, farther = (
        restoration(images, originals, HOLE, extractor) for images in (originals, near, far)
    )
    assert same.distance == 0
    assert same.psnr == float("inf")
    assert nearer.psnr == pytest.approx(masked_psnr(near, originals, HOLE).mean())
    assert 0 < nearer.distance < farther.distance
    assert same.seam < nearer.seam < farther.seam
