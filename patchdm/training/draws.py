"""Every random draw of a training step, as a function of (seed, step).

A step that is computed again, after a kill or on another number of processes, draws the same
images, windows, time steps and noise.
"""

from __future__ import annotations

import functools

import numpy as np
import torch


def step_generator(seed: int, step: int) -> torch.Generator:
    """Return the CPU generator of a step."""
    return torch.Generator().manual_seed(_mix(seed, step))


def seed_dropout(seed: int, step: int) -> None:
    """Seed torch's global generators, from which dropout draws, for a step."""
    torch.manual_seed(_mix(seed, step, 1))


def draw_rows(count: int, batch_size: int, seed: int, step: int) -> np.ndarray:
    """Return the images of a step: consecutive places in one shuffled epoch after another.

    Args:
        count: images in the training set.
        batch_size: images a step.
        seed: root of the shuffling.
        step: number of the step, from 0.

    Returns:
        (batch_size,) int, 0 .. count - 1.
    """
    seen = step * batch_size + np.arange(batch_size)
    epochs = seen // count
    rows = np.empty(batch_size, dtype=np.int64)
    for epoch in np.unique(epochs):
        now = epochs == epoch
        rows[now] = _epoch_order(count, seed, int(epoch))[seen[now] % count]
    return rows


@functools.lru_cache(maxsize=2)
def _epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(count)


def _mix(*numbers: int) -> int:
    """Hash numbers to the 32 bits that torch's CPU generator takes."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
