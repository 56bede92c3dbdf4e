"""Health of a latent model: are the codes it samples spread like those it was trained on?"""

from __future__ import annotations

import numpy as np

from patchdm.metrics.distances import distance_blocks

_MOST = 1000
"""Codes whose neighbours are sought: a median needs no more."""


def code_health(sampled: np.ndarray, codes: np.ndarray) -> dict[str, float]:
    """Compare sampled codes with the training codes, each dimension over its training deviation.

    Args:
        sampled: (m, code_dim), two or more.
        codes: (n, code_dim), two or more.

    Returns:
        mean_error: root mean square, over dimensions, of the difference of the means; 0 is right.
        std_ratio: root mean square of the sampled deviations; 1 is right.
        nearest: median distance of a sampled code to its nearest training code, over the root of
            code_dim; 0 for a model that copies.
        nearest_training: the same of a training code to its nearest other, for comparison.
    """
    std = codes.std(axis=0)
    std[std == 0] = 1.0
    mean = codes.mean(axis=0)
    a, b = (sampled - mean) / std, (codes - mean) / std
    some = np.linspace(0, len(b) - 1, min(_MOST, len(b))).astype(int)
    return {
        "mean_error": _rms(a.mean(axis=0)),
        "std_ratio": _rms(a.std(axis=0)),
        "nearest": _nearest(a[:_MOST], b, itself=None),
        "nearest_training": _nearest(b[some], b, itself=some),
    }


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.square(values).mean()))


def _nearest(vectors: np.ndarray, others: np.ndarray, itself: np.ndarray | None) -> float:
    """Median distance to the nearest of others, where `itself` says which not to count."""
    found = np.empty(len(vectors))
    for rows, distances in distance_blocks(vectors, others):
        if itself is not None:
            distances[np.arange(len(distances)), itself[rows]] = np.inf
        found[rows] = distances.min(dim=1).values.numpy()
    return float(np.median(found) / np.sqrt(vectors.shape[1]))
