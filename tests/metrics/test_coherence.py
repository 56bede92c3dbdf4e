"""Coherence by closed forms: halves that are the same, that have nothing in common, in between."""

from __future__ import annotations

import math

import numpy as np
import pytest

from patchdm.metrics.coherence import HalfSums, halves

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(5, 1, size=(4000, 8)).astype(np.float32)


def coherence(first: np.ndarray, second: np.ndarray, size: int = 4000) -> float:
    sums = HalfSums(first.shape[1])
    for start in range(0, len(first), size):
        sums.add(first[start : start + size], second[start : start + size])
    return sums.correlation()


def test_equal_halves_cohere_and_halves_of_different_images_do_not():
    assert coherence(FEATURES, FEATURES) == pytest.approx(1)
    assert coherence(FEATURES, 3 * FEATURES + 7) == pytest.approx(1)
    assert coherence(FEATURES, np.roll(FEATURES, 1, axis=0)) == pytest.approx(0, abs=0.03)
    assert coherence(FEATURES, -FEATURES) == pytest.approx(-1)


def test_what_halves_share_counts_by_its_variance():
    """Halves of a common part of variance 1 and an own one of variance 3: 1 / (1 + 3)."""
    own = RNG.normal(0, math.sqrt(3), size=(2, *FEATURES.shape))
    assert coherence(FEATURES + own[0], FEATURES + own[1]) == pytest.approx(0.25, abs=0.02)


def test_batches_do_not_matter():
    other = np.roll(FEATURES, 1, axis=1)
    assert coherence(FEATURES, other, size=7) == pytest.approx(coherence(FEATURES, other))


def test_equal_images_say_nothing():
    same = np.broadcast_to(FEATURES[:1], FEATURES.shape)
    assert math.isnan(coherence(same, same))
    assert math.isnan(coherence(same, FEATURES))


@pytest.mark.parametrize("shape", [(4, 9), (4, 8), (8, 8), (9, 4)], ids=str)
def test_images_are_cut_across_their_longer_side(shape: tuple[int, int]):
    images = RNG.integers(0, 256, size=(2, *shape, 3), dtype=np.uint8)
    first, second = halves(images)
    assert first.shape == second.shape
    side = max(shape) // 2
    if shape[1] >= shape[0]:
        np.testing.assert_array_equal(first, images[:, :, :side])
        np.testing.assert_array_equal(second, images[:, :, shape[1] - side :])
    else:
        np.testing.assert_array_equal(first, images[:, :side])
        np.testing.assert_array_equal(second, images[:, shape[0] - side :])
