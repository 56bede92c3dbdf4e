"""Precision and recall (1904.06991), density and coverage (2002.09797).

The manifold of a set is the union of balls around its images; the radius of a ball is the
distance to the image's k-th nearest neighbour in the same set.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from patchdm.metrics.distances import distance_blocks


class Manifold(NamedTuple):
    """How samples and real images lie in each other's manifolds.

    `precision`: share of samples in the real manifold. `recall`: share of real images in that of
    the samples. `density`: real balls around a sample, over k; may exceed 1. `coverage`: share of
    real balls that hold a sample.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def radii(features: np.ndarray, k: int) -> np.ndarray:
    """Return each image's distance to its k-th nearest neighbour: (n, dim) -> (n,) float32.

    Raises:
        ValueError: k is not 1 to n - 1.
    """
    if not 1 <= k < len(features):
        raise ValueError(f"k is {k}, expected 1 to {len(features) - 1}")
    found = np.empty(len(features), np.float32)
    for rows, distances in distance_blocks(features, features):
        # An image is its own nearest neighbour. (kthvalue would copy the block three times.)
        found[rows] = distances.topk(k + 1, largest=False).values[:, -1].numpy()
    return found


def manifold(
    samples: np.ndarray,
    real: np.ndarray,
    *,
    sample_radii: np.ndarray | None,
    real_radii: np.ndarray,
    k: int,
) -> Manifold:
    """Compare samples with real images.

    Args:
        samples, real: features (n, dim) and (m, dim) float.
        sample_radii, real_radii: their `radii`, (n,) and (m,); None where the samples are too few
            for k, and recall is then NaN.
        k: of these radii.
    """
    in_real_balls = torch.zeros(len(samples), dtype=torch.int64)
    covered = torch.zeros(len(real), dtype=torch.bool)
    recalled = torch.zeros(len(real), dtype=torch.bool)
    around_real = torch.from_numpy(real_radii)
    for rows, distances in distance_blocks(samples, real):
        inside = distances <= around_real
        in_real_balls[rows] = inside.sum(dim=1)
        covered |= inside.any(dim=0)
        if sample_radii is not None:
            around_samples = torch.from_numpy(sample_radii[rows])
            recalled |= (distances <= around_samples[:, None]).any(dim=0)
    return Manifold(
        precision=float((in_real_balls > 0).double().mean()),
        recall=float(recalled.double().mean()) if sample_radii is not None else float("nan"),
        density=float(in_real_balls.double().mean() / k),
        coverage=float(covered.double().mean()),
    )
