"""Global coherence: do the two halves of an image belong together?

The paper's claim for its global code (sections 3 and 4) is that patches agree with each other far
beyond their borders, which neither seams nor features of crops can tell.
"""

from __future__ import annotations

import math

import numpy as np


class HalfSums:
    """Sums over images of the features (dim,) of their two halves, float64."""

    def __init__(self, dim: int) -> None:
        self.count = 0  # images so far
        self.first = np.zeros(dim)
        self.second = np.zeros(dim)
        self.products = np.zeros(3)  # first . first, second . second, first . second

    def add(self, first: np.ndarray, second: np.ndarray) -> None:
        """Take in the features of the halves of one batch, (n, dim) float each."""
        first, second = first.astype(np.float64), second.astype(np.float64)
        self.first += first.sum(axis=0)
        self.second += second.sum(axis=0)
        self.products += [np.vdot(first, first), np.vdot(second, second), np.vdot(first, second)]
        self.count += len(first)

    def correlation(self) -> float:
        """Return the correlation of both halves' features over the images: the coherence.

        It is the trace of their covariance, over the root of the product of the traces of their
        own: 0 where halves of different images were put together, 1 where both are the same; NaN
        where all images are equal.
        """
        first, second = self.first / self.count, self.second / self.count
        means = np.array([first @ first, second @ second, first @ second])
        of_first, of_second, of_both = self.products / self.count - means
        least = 1e-9 * self.products[:2].sum() / self.count  # what rounding leaves of no variance
        if min(of_first, of_second) <= least:
            return math.nan
        return float(of_both / math.sqrt(of_first * of_second))


def halves(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut images (n, H, W, 3) across their longer side; a line in the middle belongs to none."""
    height, width = images.shape[1:3]
    if width >= height:
        return images[:, :, : width // 2], images[:, :, -(width // 2) :]
    return images[:, : height // 2], images[:, -(height // 2) :]
