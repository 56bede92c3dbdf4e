"""Mean and covariance of feature vectors, streamed."""

from __future__ import annotations

import numpy as np


class Moments:
    """Mean and covariance in float64 of vectors that come in batches.

    Batches are merged by the pairwise update of Chan, Golub and LeVeque (1983), which keeps its
    precision where the mean is large. Memory: dim * dim * 8 bytes, whatever the number of vectors.
    """

    def __init__(self, dim: int) -> None:
        self.count = 0  # vectors so far
        self.mean = np.zeros(dim)
        self.scatter = np.zeros((dim, dim))

    def add(self, vectors: np.ndarray) -> None:
        """Take in one batch, (n, dim) float, n at least 1."""
        batch = vectors.astype(np.float64)
        mean, total = batch.mean(axis=0), self.count + len(batch)
        shift = mean - self.mean
        # The shift between both means counts like one more vector of this weight.
        rows = np.vstack([batch - mean, np.sqrt(self.count * len(batch) / total) * shift])
        self.scatter += rows.T @ rows
        self.mean += shift * (len(batch) / total)
        self.count = total

    @property
    def covariance(self) -> np.ndarray:
        """(dim, dim) float64, of at least two vectors; unbiased."""
        return self.scatter / (self.count - 1)
