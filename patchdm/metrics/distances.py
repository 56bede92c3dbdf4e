"""Euclidean distances between two sets of vectors, in blocks of bounded memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

BLOCK = 2**23
"""Distances of a block, 32 MiB."""
_COLUMNS = 2048


def distance_blocks(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[slice, Tensor]]:
    """Yield the distances of some vectors of `a` to all of `b`, block by block.

    Both are moved by the mean of `b` first: distances come from products of vectors, whose
    rounding grows with their length.

    Yields:
        The rows of `a` (n, dim), and their distances to `b` (m, dim): (rows, m) float32.
    """
    size, centre = max(1, BLOCK // len(b)), b.mean(axis=0, dtype=np.float64)
    for start in range(0, len(a), size):
        rows = slice(start, min(start + size, len(a)))
        vectors = _centred(a[rows], centre)
        distances = torch.empty(len(vectors), len(b))
        for column in range(0, len(b), _COLUMNS):
            columns = slice(column, column + _COLUMNS)
            distances[:, columns] = torch.cdist(vectors, _centred(b[columns], centre))
        yield rows, distances


def _centred(vectors: np.ndarray, centre: np.ndarray) -> Tensor:
    return torch.from_numpy((vectors - centre).astype(np.float32))
