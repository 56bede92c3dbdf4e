"""Euclidean distances between two sets of vectors, in blocks of bounded memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

BLOCK = 2**23
"""Distances of a block, 64 MiB in float64."""
_COLUMNS = 2048


def distance_blocks(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[slice, Tensor]]:
    """Yield the distances of some vectors of `a` to all of `b`, block by block.

    Args:
        a, b: (n, dim) and (m, dim), any number type; computed in float64.

    Yields:
        The rows of `a`, and their distances (rows, m) float64.
    """
    size = max(1, BLOCK // len(b))
    for start in range(0, len(a), size):
        rows = slice(start, min(start + size, len(a)))
        vectors = _double(a[rows])
        distances = torch.empty(len(vectors), len(b), dtype=torch.float64)
        for column in range(0, len(b), _COLUMNS):
            columns = slice(column, column + _COLUMNS)
            distances[:, columns] = torch.cdist(vectors, _double(b[columns]))
        yield rows, distances


def _double(vectors: np.ndarray) -> Tensor:
    return torch.from_numpy(vectors.astype(np.float64))
