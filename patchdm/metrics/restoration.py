"""How well holes are filled: against the originals, and at the border of the mask."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from patchdm.metrics.extractors import Extractor


class Restoration(NamedTuple):
    """Means over images: dB inside the mask, Euclidean distance of the features, seam score."""

    psnr: float
    distance: float
    seam: float


def restorations(
    versions: Iterable[NDArray[np.uint8]],
    originals: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    extractor: Extractor,
) -> list[Restoration]:
    """Compare several versions of restored images with the originals.

    Args:
        versions, originals: (n, H, W, 3) uint8 each.
        mask: (H, W) bool, True where the images were restored.
        extractor: of the features of whole images.
    """

    def features(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        return extractor.features(images).pooled.astype(np.float64)

    real = features(originals)
    return [
        Restoration(
            psnr=float(masked_psnr(images, originals, mask).mean()),
            distance=float(np.linalg.norm(features(images) - real, axis=1).mean()),
            seam=mask_seam_score(images, mask),
        )
        for images in versions
    ]


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


def mask_seam_score(images: NDArray[np.uint8], mask: NDArray[np.bool_]) -> float:
    """Return the mean step across the border of a mask over the mean step elsewhere.

    Steps are absolute differences of neighbouring pixels. A border has other shares of horizontal
    and vertical ones than an image, so the steps elsewhere are weighed to have those of the border.
    1.0 means no seam on average over what is shown; below it, the border is smoother than the rest.

    Args:
        images: (n, H, W, 3) uint8.
        mask: (H, W) bool, with pixels of both kinds.

    Raises:
        ValueError: the shapes do not fit, or the mask has no border.
    """
    if images.shape[1:3] != mask.shape:
        raise ValueError(f"found a mask {mask.shape}, expected {images.shape[1:3]}")
    if mask.all() or not mask.any():
        raise ValueError("found a mask without border, expected pixels of both kinds")
    levels = images.astype(np.int16)
    at_border, elsewhere = 0.0, 0.0
    for axis in (0, 1):
        border = np.diff(mask, axis=axis)
        if border.any():
            steps = np.abs(np.diff(levels, axis=axis + 1)).mean(axis=(0, 3))
            at_border += steps[border].sum()
            elsewhere += steps[~border].mean() * border.sum() if not border.all() else np.nan
    if at_border == elsewhere == 0:
        return 1.0
    return float(at_border / elsewhere) if elsewhere else float("inf")
