"""FID and KID by torch-fidelity's formulas, from moments and features.

torch-fidelity's own cache of statistics is not used: its key knows neither the images nor the
weights.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric
from torch_fidelity.metric_kid import kernel_mmd

from patchdm.metrics.moments import Moments

KID_SUBSETS = 100
"""torch-fidelity's number."""


class Kid(NamedTuple):
    """Mean over the subsets, its standard error, and the standard deviation of the subsets."""

    mean: float
    sem: float
    std: float


def fid(a: Moments, b: Moments) -> float:
    """Return the Frechet distance of two Gaussians (1706.08500); it grows as images get fewer.

    Raises:
        ValueError: a set has fewer than two images.
    """
    few, many = sorted((a, b), key=lambda moments: moments.count)
    if few.count < 2:
        raise ValueError(f"found {few.count} images in a set, at least 2 are needed")
    mean_few, cov_few, mean_many, cov_many = few.mean, few.covariance, many.mean, many.covariance
    outside = 0.0
    if few.count <= len(few.mean):
        # The root of the product of both covariances lives where the smaller set varies, and its
        # eigenvalues cost the cube of the dimensions: look at it there, add what lies outside.
        basis = _range_of(cov_few, few.count - 1)
        shift, spread = mean_few - mean_many, np.trace(cov_many)
        mean_few, mean_many = mean_few @ basis, mean_many @ basis
        cov_few, cov_many = basis.T @ cov_few @ basis, basis.T @ cov_many @ basis
        inside = mean_few - mean_many
        outside = shift @ shift - inside @ inside + spread - np.trace(cov_many)
    gaussians = ({"mu": mean_few, "sigma": cov_few}, {"mu": mean_many, "sigma": cov_many})
    distance = fid_statistics_to_metric(*gaussians, verbose=False)[KEY_METRIC_FID] + outside
    return max(0.0, float(distance))  # equal sets come out a rounding error below zero


def _range_of(covariance: np.ndarray, rank: int) -> np.ndarray:
    """Return an orthonormal basis (dim, rank) that spans a matrix of at most this rank.

    Random combinations of its columns do (0909.4061); the draw is always the same.
    """
    draws = np.random.default_rng(0).normal(size=(len(covariance), rank))
    return np.linalg.qr(covariance @ draws).Q


def kid(a: np.ndarray, b: np.ndarray, *, subset_size: int, seed: int) -> Kid:
    """Return the unbiased squared MMD of 1801.01401, averaged over subsets of both sets.

    The subsets are torch-fidelity's, the kernels in float64. They overlap where there are few
    images: the standard error is then that of the drawing, not that of more images.

    Args:
        a, b: features (n, dim) and (m, dim), float.
        subset_size: images of a subset, cut to the smaller of both sets.
        seed: of the subsets.

    Raises:
        ValueError: a set has fewer than two images.
    """
    size = min(subset_size, len(a), len(b))
    if size < 2:
        raise ValueError(f"found {size} images in a set, at least 2 are needed")
    generator = np.random.RandomState(seed)

    def subset(features: np.ndarray) -> np.ndarray:
        return features[generator.choice(len(features), size, replace=False)].astype(np.float64)

    values = [kernel_mmd(subset(a), subset(b)) for _ in range(KID_SUBSETS)]
    std = float(np.std(values))
    return Kid(float(np.mean(values)), std / np.sqrt(KID_SUBSETS - 1), std)
