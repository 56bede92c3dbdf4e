"""Memorisation: how near do samples lie to training images, compared with held-out photographs?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from patchdm.metrics.distances import distance_blocks

THUMBNAIL = 32
"""Longer side in pixels of the images whose pixels are compared."""


class Nearest(NamedTuple):
    """Of each vector the nearest in another set: its row and its distance, (n,) each."""

    rows: np.ndarray
    distances: np.ndarray


def nearest(vectors: np.ndarray, others: np.ndarray) -> Nearest:
    """Find the nearest of other vectors, (n, ..) and (m, ..); the first of equally near ones."""
    a, b = vectors.reshape(len(vectors), -1), others.reshape(len(others), -1)
    found, exact = np.empty(len(a), np.int64), np.empty(len(a))
    for rows, distances in distance_blocks(a, b):
        found[rows] = distances.argmin(dim=1).numpy()
        # Blocks are rounded; the distance of a copy shall be 0.
        exact[rows] = np.linalg.norm(a[rows].astype(np.float64) - b[found[rows]], axis=1)
    return Nearest(found, exact)


def nearer_share(samples: np.ndarray, held_out: np.ndarray) -> float:
    """Return how often a sample lies nearer to the training images than a held-out photograph.

    Over all pairs of both; pairs of equal distance count half. A model that makes new images
    reaches 0.5, one that copies 1: the data-copying statistic of 2004.05675 (Mann-Whitney U over
    the number of pairs).

    Args:
        samples, held_out: distances to the nearest training image, (n,) and (m,).
    """
    ordered = np.sort(held_out)
    farther = len(ordered) - np.searchsorted(ordered, samples, side="right")
    not_nearer = len(ordered) - np.searchsorted(ordered, samples, side="left")
    return float((farther + not_nearer).mean() / (2 * len(ordered)))


def thumbnails(images: np.ndarray) -> np.ndarray:
    """Shrink images (n, H, W, 3) uint8 by area means until no side exceeds `THUMBNAIL` pixels."""
    height, width = images.shape[1:3]
    scale = min(1.0, THUMBNAIL / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    small = F.interpolate(torch.from_numpy(images).permute(0, 3, 1, 2).float(), size, mode="area")
    return small.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
