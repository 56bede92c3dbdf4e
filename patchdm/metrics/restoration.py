"""How well holes are filled: against the originals, and at the border of the mask."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from patchdm.metrics.extractors import Extractor
from patchdm.metrics.fidelity import kid


class Restoration(NamedTuple):
    """Means over images: dB inside the mask, Euclidean distance of the features, seam score.

    `kid` compares the features of all images with those of other photographs.
    """

    psnr: float
    distance: float
    kid: float
    seam: float


def restorations(
    versions: Iterable[NDArray[np.uint8]],
    originals: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    extractor: Extractor,
    others: NDArray[np.float32],
) -> list[Restoration]:
    """Compare several versions of restored images with the originals.

    Args:
        versions, originals: (n, H, W, 3) uint8 each.
        mask: (H, W) bool, True where the images were restored.
        extractor: of the features of whole images.
        others: (m, dim) features of photographs, for KID.

    Raises:
        ValueError: there are fewer than two images or photographs.
    """

    def features(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        return extractor.features(images).pooled.astype(np.float64)

    real = features(originals)

    def compared(images: NDArray[np.uint8]) -> Restoration:
        found = features(images)
        return Restoration(
            psnr=float(masked_psnr(images, originals, mask).mean()),
            distance=float(np.linalg.norm(found - real, axis=1).mean()),
            kid=kid(found, others, subset_size=len(found), seed=0).mean,
            seam=mask_seam_score(images, mask),
        )

    return [compared(images) for images in versions]


def spread(versions: NDArray[np.uint8], mask: NDArray[np.bool_]) -> float:
    """Return how much restored images of several seeds differ, in grey levels.

    Args:
        versions: (seeds, n, H, W, 3) uint8, of the same images.
        mask: (H, W) bool, True where they were restored.

    Returns:
        The standard deviation over the seeds, of each number inside the mask; their mean.
    """
    return float(versions[:, :, mask].astype(np.float64).std(axis=0).mean())


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
