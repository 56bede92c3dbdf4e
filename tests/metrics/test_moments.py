from __future__ import annotations

import numpy as np
import pytest

from patchdm.metrics.moments import Moments


def moments(vectors: np.ndarray, *sizes: int) -> Moments:
    found = Moments(vectors.shape[1])
    for batch in np.split(vectors, np.cumsum(sizes)):
        found.add(batch)
    return found


@pytest.fixture
def vectors() -> np.ndarray:
    """Correlated vectors far from zero, where sums of squares would lose their digits."""
    draw = np.random.default_rng(0)
    return 1e6 + draw.normal(size=(60, 7)) @ draw.normal(size=(7, 7))


@pytest.mark.parametrize("sizes", [[], [1], [1, 2, 3, 4, 5], [20, 20], [59]])
def test_streamed_moments_are_numpys(vectors: np.ndarray, sizes: list[int]) -> None:
    found = moments(vectors, *sizes)
    assert found.count == 60
    np.testing.assert_allclose(found.mean, vectors.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(found.covariance, np.cov(vectors, rowvar=False), rtol=1e-8)


def test_small_floats_are_summed_in_double(vectors: np.ndarray) -> None:
    floats = vectors.astype(np.float32)
    expected = np.cov(floats.astype(np.float64), rowvar=False)
    np.testing.assert_allclose(moments(floats, 7, 30).covariance, expected, rtol=1e-8)
