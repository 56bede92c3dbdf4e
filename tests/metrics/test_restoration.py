"""Filled holes: closed forms of the seam score, and what the other scores compare."""

from __future__ import annotations

import numpy as np
import pytest

from patchdm.metrics.extractors import load_extractor
from patchdm.metrics.restoration import mask_seam_score, masked_psnr, restorations, spread

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
    others = extractor.features(originals).pooled
    versions = originals, near, far
    same, nearer, farther = restorations(versions, originals, HOLE, extractor, others)
    assert same.kid < nearer.kid < farther.kid
    assert same.distance == 0
    assert same.psnr == float("inf")
    assert nearer.psnr == pytest.approx(masked_psnr(near, originals, HOLE).mean())
    assert 0 < nearer.distance < farther.distance
    assert same.seam < nearer.seam < farther.seam


def test_the_spread_of_seeds_is_their_deviation_inside_the_mask():
    versions = np.full((2, 3, 8, 12, 3), 100, np.uint8)
    versions[1, :, HOLE] = 106  # a deviation of 3 from the mean of 103
    versions[1, :, ~HOLE] = 200
    assert spread(versions, HOLE) == pytest.approx(3)
    assert spread(versions[:1], HOLE) == 0


@pytest.fixture
def originals() -> np.ndarray:
    return np.random.default_rng(0).integers(20, 230, (3, 6, 8, 3), np.uint8)


@pytest.fixture
def mask() -> np.ndarray:
    mask = np.zeros((6, 8), bool)
    mask[1:4, 2:7] = True
    return mask


def test_a_constant_error_has_its_closed_form(originals: np.ndarray, mask: np.ndarray) -> None:
    images = originals.copy()
    images[1, mask] += 10
    images[2, mask] -= 20
    expected = [np.inf, 20 * np.log10(255 / 10), 20 * np.log10(255 / 20)]
    np.testing.assert_allclose(masked_psnr(images, originals, mask), expected, rtol=1e-12)


def test_pixels_outside_the_mask_do_not_count(originals: np.ndarray, mask: np.ndarray) -> None:
    images = originals.copy()
    images[:, mask] += 5
    expected = masked_psnr(images, originals, mask)
    images[:, ~mask] = 0
    np.testing.assert_array_equal(masked_psnr(images, originals, mask), expected)


def test_each_image_may_have_a_mask_of_its_own(originals: np.ndarray, mask: np.ndarray) -> None:
    masks = np.stack([mask, ~mask, np.ones_like(mask)])
    images = np.random.default_rng(1).integers(0, 255, originals.shape, np.uint8)
    alone = [
        masked_psnr(images[i : i + 1], originals[i : i + 1], masks[i])[0] for i in range(len(masks))
    ]
    np.testing.assert_array_equal(masked_psnr(images, originals, masks), alone)


def test_what_does_not_fit_is_refused(originals: np.ndarray, mask: np.ndarray) -> None:
    with pytest.raises(ValueError, match="a mask without pixels"):
        masked_psnr(originals, originals, np.stack([mask, mask, np.zeros_like(mask)]))
    with pytest.raises(ValueError, match="masks"):
        masked_psnr(originals, originals, mask[1:])
    with pytest.raises(ValueError, match="originals"):
        masked_psnr(originals, originals[:2], mask)
