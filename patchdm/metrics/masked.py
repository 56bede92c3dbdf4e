"""Restored images against the originals, over the pixels that were hidden."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def masked_psnr(
    images: NDArray[np.uint8], originals: NDArray[np.uint8], masks: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the peak signal-to-noise ratio of each image inside its mask, in decibels.

    Args:
        images, originals: (n, H, W, 3) uint8.
        masks: (n, H, W) bool, or (H, W) for all; True where an image counts.

    Returns:
        (n,) 10 log10(255^2 / mean squared error); infinite where all these pixels are equal.

    Raises:
        ValueError: the shapes do not fit, or a mask has no pixel.
    """
    shape = images.shape[:-1]
    if originals.shape != images.shape or masks.shape not in (shape, shape[1:]):
        raise ValueError(
            f"found images {images.shape}, originals {originals.shape}, masks {masks.shape}, "
            f"expected originals {images.shape} and masks {shape} or {shape[1:]}"
        )
    inside = np.broadcast_to(masks, shape)
    pixels = inside.sum(axis=(1, 2))
    if not pixels.all():
        raise ValueError("found a mask without pixels, expected one or more")
    squares = ((images.astype(np.float64) - originals) ** 2).mean(axis=3)
    error = (squares * inside).sum(axis=(1, 2)) / pixels
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(255**2 / error))
