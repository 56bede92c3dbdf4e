from __future__ import annotations

import numpy as np
import pytest
import torch
import torch_fidelity
from torch import Tensor
from torch.utils.data import Dataset

from patchdm.metrics.blur import blur8
from patchdm.metrics.extractors import Extractor
from patchdm.metrics.fidelity import fid, kid
from patchdm.metrics.manifolds import manifold, radii
from patchdm.metrics.moments import Moments


class _Tensors(Dataset[Tensor]):
    def __init__(self, images: np.ndarray) -> None:
        self.images = torch.from_numpy(images).permute(0, 3, 1, 2)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


def moments(features: np.ndarray, batch: int = 100) -> Moments:
    found = Moments(features.shape[1])
    for start in range(0, len(features), batch):
        found.add(features[start : start + batch])
    return found


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return fid(moments(a), moments(b))


def test_a_set_against_itself_is_at_distance_zero(features: np.ndarray) -> None:
    assert distance(features, features) == pytest.approx(0, abs=1e-3)
    assert kid(features, features, subset_size=24, seed=0).mean <= 0  # unbiased: just below zero


def test_the_blurred_are_further_away_than_other_photographs(
    features: np.ndarray, extractor: Extractor, images: np.ndarray
) -> None:
    blurred = extractor.features(blur8(images)).pooled
    assert distance(blurred[:12], features[12:]) > distance(features[:12], features[12:]) + 10
    near, far = (kid(x[:12], features[12:], subset_size=10, seed=0) for x in (features, blurred))
    assert far.mean > near.mean


def test_numbers_are_those_of_torch_fidelity(
    features: np.ndarray, extractor: Extractor, images: np.ndarray
) -> None:
    """The whole way: its data loading, its call of our registered extractor, its metrics."""
    blurred = blur8(images)[:20]
    common = {"feature_extractor": "efficientnet-lite0", "batch_size": 8, "save_cpu_ram": True}
    switches = {"cuda": False, "cache": False, "verbose": False}
    theirs = {
        name: value
        for metrics in (
            {"fid": True, "kid": True, "kid_subset_size": 15, "rng_seed": 7},
            {"prc": True, "prc_neighborhood": 2},
        )
        for name, value in torch_fidelity.calculate_metrics(
            input1=_Tensors(blurred), input2=_Tensors(images), **metrics, **common, **switches
        ).items()
    }
    ours = extractor.features(blurred).pooled
    frechet, subsets = distance(ours, features), kid(ours, features, subset_size=15, seed=7)
    assert frechet == pytest.approx(theirs["frechet_inception_distance"], rel=1e-3)
    assert subsets.mean == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-3)
    assert subsets.std == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-3)
    assert subsets.sem == pytest.approx(subsets.std / np.sqrt(99))
    found = manifold(
        ours, features, sample_radii=radii(ours, 2), real_radii=radii(features, 2), k=2
    )
    assert found.precision == pytest.approx(theirs["precision"])
    assert found.recall == pytest.approx(theirs["recall"])


def test_order_and_batches_do_not_matter(features: np.ndarray) -> None:
    a, b = features[:12], features[12:]
    shuffled = np.random.default_rng(0).permutation(a)
    expected = distance(a, b)
    assert distance(shuffled, b) == pytest.approx(expected, rel=1e-6)
    assert fid(moments(a, 5), moments(b, 1)) == pytest.approx(expected, rel=1e-6)
    whole = kid(a, b, subset_size=12, seed=0).mean
    assert kid(shuffled, b, subset_size=12, seed=0).mean == pytest.approx(whole, rel=1e-6)


def _gaussian(mean: np.ndarray, covariance: np.ndarray, count: int) -> np.ndarray:
    """Return vectors whose sample mean and covariance are exactly these."""
    noise = np.random.default_rng(count).normal(size=(count, len(mean)))
    noise -= noise.mean(axis=0)
    whitened = noise @ np.linalg.inv(np.linalg.cholesky(np.cov(noise, rowvar=False)).T)
    return mean + whitened @ np.linalg.cholesky(covariance).T


def _root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return vectors * np.sqrt(values.clip(min=0)) @ vectors.T


@pytest.mark.parametrize(("count", "other"), [(50, 70), (5, 70), (70, 5), (7, 7), (8, 9)])
def test_gaussians_have_their_closed_form(count: int, other: int) -> None:
    """With symmetric roots; fewer images than dimensions take another path."""
    draw = np.random.default_rng(1)
    a = draw.normal(size=(count, 7)) @ draw.normal(size=(7, 7)) + 3
    b = draw.normal(size=(other, 7))
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = _root(_root(first) @ second @ _root(first))
    shift = a.mean(axis=0) - b.mean(axis=0)
    expected = shift @ shift + np.trace(first + second - 2 * root)
    assert distance(a, b) == pytest.approx(expected, rel=1e-5)


def test_independent_gaussians_have_a_distance_one_can_compute_by_hand() -> None:
    """Diagonal covariances: the squared shift plus the squared differences of the deviations."""
    mean, other = np.array([1.0, 2.0, 3.0]), np.array([1.0, 0.0, 2.0])
    a = _gaussian(mean, np.diag([1.0, 4.0, 9.0]), 20)
    b = _gaussian(other, np.diag([4.0, 4.0, 1.0]), 30)
    expected = (0 + 4 + 1) + ((2 - 1) ** 2 + 0 + (3 - 1) ** 2)
    assert distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_kid_follows_its_seed_and_never_asks_for_more_than_there_is(features: np.ndarray) -> None:
    a, b = features[:14], features[14:]
    assert kid(a, b, subset_size=5, seed=1) == kid(a, b, subset_size=5, seed=1)
    assert kid(a, b, subset_size=5, seed=1) != kid(a, b, subset_size=5, seed=2)
    assert kid(a, b, subset_size=1000, seed=0) == kid(a, b, subset_size=10, seed=0)


def test_one_image_has_no_covariance(features: np.ndarray) -> None:
    with pytest.raises(ValueError, match="found 1 images"):
        distance(features[:1], features)
    with pytest.raises(ValueError, match="found 1 images"):
        kid(features[:1], features, subset_size=5, seed=0)
