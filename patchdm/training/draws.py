"""Every random draw of a training, as a function of the seed and the number of the item.

Items (windows, codes) are numbered as they are seen. Whichever process makes a step, and however
often it is made, item 1,234,567 is the same image, window, time step and noise.
"""

from __future__ import annotations

import functools

import numpy as np
import torch


def generator(seed: int, *place: int) -> torch.Generator:
    """Return a CPU generator for a place in the training: an item, or whatever else has numbers."""
    return torch.Generator().manual_seed(_mix(seed, *place))


def seed_dropout(seed: int, first_item: int) -> None:
    """Seed torch's global generators, from which dropout draws, for a micro-batch."""
    torch.manual_seed(_mix(seed, first_item, 1))


def draw_rows(count: int, items: range, seed: int) -> np.ndarray:
    """Return which of `count` images some items are: places in one shuffled epoch after another.

    Returns:
        (len(items),) int, 0 .. count - 1.
    """
    seen = np.arange(items.start, items.stop)
    epochs = seen // count
    rows = np.empty(len(items), dtype=np.int64)
    for epoch in np.unique(epochs):
        now = epochs == epoch
        rows[now] = _epoch_order(count, seed, int(epoch))[seen[now] % count]
    return rows


@functools.lru_cache(maxsize=1)  # the one array that grows with the training set
def _epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(count)


def _mix(*numbers: int) -> int:
    """Hash numbers to the 32 bits that torch's CPU generator takes."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
