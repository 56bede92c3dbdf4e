"""Seams: are the steps across patch borders larger than those inside patches?"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


class StepMaps:
    """Absolute steps between neighbouring pixels at each place, summed over images and colours."""

    def __init__(self, height: int, width: int) -> None:
        self.count = 0  # images so far
        self.across = np.zeros((height, width - 1), np.int64)
        self.down = np.zeros((height - 1, width), np.int64)

    def add(self, images: np.ndarray) -> None:
        """Take in one batch, (n, H, W, 3) uint8."""
        for image in images:
            levels = image.astype(np.int16)
            self.across += np.abs(np.diff(levels, axis=1)).sum(axis=2)
            self.down += np.abs(np.diff(levels, axis=0)).sum(axis=2)
        self.count += len(images)

    def means(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean steps, see `step_maps`."""
        return self.across / (3 * self.count), self.down / (3 * self.count)


def step_maps(batches: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean absolute step between neighbouring pixels, at each place in the image.

    Of batches (n, H, W, 3) uint8 of one size: (H, W-1) step from column x to x+1 and (H-1, W) step
    from row y to y+1, float64 in grey levels, averaged over images and colours.

    Raises:
        ValueError: there is no image.
    """
    maps = None
    for batch in batches:
        maps = maps or StepMaps(*batch.shape[1:3])
        maps.add(batch)
    if maps is None or not maps.count:
        raise ValueError("found no image, at least one is needed")
    return maps.means()


def seam_score(batches: Iterable[np.ndarray], patch_size: int, offset: int = 0) -> float:
    """Return the mean step across patch borders over the mean step inside patches.

    1.0 means no seam. Every step weighs the same, vertical borders and horizontal ones alike;
    two images without any step score 1.0.

    Args:
        batches: arrays (n, H, W, 3) uint8 of one size.
        patch_size: the distance of borders.
        offset: of the borders from its multiples inside the image. The shifted patches, which tile
            the image, have theirs at multiples; the padded ones half a patch further.

    Raises:
        ValueError: there is no image, or no border in it.
    """
    return score_of_maps(*step_maps(batches), patch_size, offset)


def score_of_maps(across: np.ndarray, down: np.ndarray, patch_size: int, offset: int = 0) -> float:
    """Return the `seam_score` of images by their `step_maps`."""
    columns, rows = across.mean(axis=0), down.mean(axis=1)
    height, width = len(rows) + 1, len(columns) + 1
    steps = np.concatenate([columns, rows])
    weights = np.concatenate([np.full(width - 1, height), np.full(height - 1, width)])
    at_border = np.concatenate(
        [np.arange(1, side) % patch_size == offset % patch_size for side in (width, height)]
    )
    if not at_border.any() or at_border.all():
        raise ValueError(
            f"patch size is {patch_size}, expected 2 to {max(height, width) - 1} pixels"
        )
    border = np.average(steps[at_border], weights=weights[at_border])
    interior = np.average(steps[~at_border], weights=weights[~at_border])
    if border == interior == 0:
        return 1.0
    return float(border / interior) if interior else float("inf")
