"""Precision, recall, density and coverage of clouds whose answer is known."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from patchdm.metrics import distances
from patchdm.metrics.distances import distance_blocks
from patchdm.metrics.manifolds import Manifold, manifold, radii
from tests.conftest import REPO


def compare(samples: np.ndarray, real: np.ndarray, k: int) -> Manifold:
    own = radii(samples, k) if len(samples) > k else None
    return manifold(samples, real, sample_radii=own, real_radii=radii(real, k), k=k)


def line(*places: float) -> np.ndarray:
    """Points on a line in three dimensions, off the origin."""
    return np.array([[x, 5.0, -2.0] for x in places])


def test_radii_are_distances_to_the_kth_neighbour() -> None:
    points = line(0, 1, 3, 7)
    np.testing.assert_allclose(radii(points, 1), [1, 1, 2, 4], rtol=1e-6)
    np.testing.assert_allclose(radii(points, 2), [3, 2, 3, 6], rtol=1e-6)
    for k in (0, 4):
        with pytest.raises(ValueError, match=f"k is {k}, expected 1 to 3"):
            radii(points, k)


def test_a_set_against_itself_is_wholly_inside() -> None:
    cloud = np.random.default_rng(0).normal(size=(40, 6))
    found = compare(cloud, cloud, 3)
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)
    assert found.density > 1  # a sample lies in its own ball too


def test_clouds_far_apart_share_nothing() -> None:
    cloud = np.random.default_rng(0).normal(size=(40, 6))
    assert compare(cloud + 100, cloud, 3) == (0, 0, 0, 0)


def test_balls_can_be_counted_by_hand() -> None:
    """Real balls: 0 +- 1, 1 +- 1, 10 +- 2, 12 +- 2; of samples: 0.5 +- 1, 1.5 +- 1, 30 +- 28.5."""
    real, samples = line(0, 1, 10, 12), line(0.5, 1.5, 30)
    found = compare(samples, real, 1)
    assert found.precision == pytest.approx(2 / 3)  # 30 lies in no ball
    assert found.density == pytest.approx((2 + 1 + 0) / 3)  # real balls around each
    assert found.coverage == pytest.approx(2 / 4)
    # 0 and 1 lie in the ball around 0.5, 10 and 12 in the one around 30.
    assert found.recall == 1


def test_a_mode_that_is_left_out_costs_recall_and_coverage_alone() -> None:
    draw = np.random.default_rng(0)
    left, right = draw.normal(size=(50, 4)), draw.normal(size=(50, 4)) + 50
    found = compare(draw.normal(size=(60, 4)), np.concatenate([left, right]), 5)
    assert found.precision > 0.9
    assert 0.3 < found.recall <= 0.5
    assert 0.3 < found.coverage <= 0.5


def test_one_outlier_fools_precision_but_not_density() -> None:
    """Why density was made (2002.09797, section 3): the outlier's ball covers everything."""
    draw = np.random.default_rng(0)
    real = np.concatenate([draw.normal(size=(50, 4)), np.full((1, 4), 30.0)])
    found = compare(draw.normal(size=(50, 4)) + 15, real, 5)
    assert found.precision == 1
    assert found.density == pytest.approx(1 / 5)
    assert found.coverage == pytest.approx(1 / 51)


def test_too_few_samples_have_no_recall() -> None:
    found = compare(line(0, 1, 2), line(0, 1, 2, 3, 4), 3)
    assert np.isnan(found.recall)
    assert found.precision == 1


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    samples, real = draw.normal(size=(33, 5)), draw.normal(size=(47, 5)) + 0.5
    whole = compare(samples, real, 3)
    monkeypatch.setattr(distances, "BLOCK", 5 * 47)
    monkeypatch.setattr(distances, "_COLUMNS", 4)
    assert compare(samples, real, 3) == whole


def test_blocks_are_bounded_and_hold_euclidean_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    a, b = (draw.normal(size=(n, 30)).astype(np.float32) + 100 for n in (29, 31))
    monkeypatch.setattr(distances, "BLOCK", 200)
    blocks = list(distance_blocks(a, b))
    assert [rows.start for rows, _ in blocks] == [0, 6, 12, 18, 24]
    found = np.concatenate([block.numpy() for _, block in blocks])
    expected = np.linalg.norm(a[:, None].astype(np.float64) - b[None], axis=2)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


_MEMORY = """
import resource
import numpy as np
import torch
from patchdm.metrics.manifolds import manifold, radii
from patchdm.metrics.neighbours import nearest

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

def measure(count):
    samples, real = np.random.default_rng(0).random((2, count, 4), np.float32)
    found = [radii(x, 3) for x in (samples, real)]
    manifold(samples, real, sample_radii=found[0], real_radii=found[1], k=3)
    nearest(samples, real)

torch.set_num_threads(1)
measure(2_900)
before = peak()
measure(8_000)
print(peak() - before)
"""


def test_memory_is_that_of_some_blocks_whatever_the_number_of_vectors() -> None:
    """All distances of 8,000 vectors would take 244 MiB."""
    command = [sys.executable, "-c", _MEMORY]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 90
