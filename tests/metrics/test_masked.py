from __future__ import annotations

import numpy as np
import pytest

from patchdm.metrics.masked import masked_psnr


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
