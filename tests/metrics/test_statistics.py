from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from patchdm.errors import PatchDMError
from patchdm.metrics import statistics
from patchdm.metrics.extractors import Extractor
from patchdm.metrics.judge import Judge
from patchdm.metrics.seams import step_maps
from patchdm.metrics.statistics import Statistics, collect, collect_crops, random_crops
from tests.stages.tiny import tiny_params

KEYS = np.arange(100, 124)


def _network(images: Tensor) -> tuple[Tensor, Tensor]:
    """Stands for an extractor with a spatial layer: mean colours, and some pixels."""
    return images.float().mean(dim=(2, 3)), images[:, 0, :2, :2].flatten(1).float()


FAKE = Extractor("fake", "Fake", "none", "0" * 64, {torch.device("cpu"): _network})
CONFIG = tiny_params(evaluate={"crop_size": 10, "crops_per_image": 2}).evaluate
JUDGE = Judge(FAKE, CONFIG, seed=0, patch_size=8)


def collected(images: np.ndarray, size: int, count: int = 24, seed: int = 0) -> Statistics:
    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, len(images), size):
            batch = images[start : start + size]
            yield KEYS[start:][: len(batch)], batch

    return collect(batches(), count, replace(JUDGE, seed=seed))


@pytest.mark.parametrize("size", [1, 7, 24])
def test_one_pass_sees_everything(images: np.ndarray, size: int) -> None:
    found = collected(images, size)
    pooled = images.mean(axis=(1, 2))
    np.testing.assert_allclose(found.features, pooled, rtol=1e-5)
    np.testing.assert_allclose(found.pooled.covariance, np.cov(pooled, rowvar=False), rtol=1e-5)
    assert found.spatial is not None
    corner = images[:, :2, :2, 0].reshape(24, 4).astype(np.float64)
    np.testing.assert_allclose(found.spatial.covariance, np.cov(corner, rowvar=False), rtol=1e-5)
    crops = np.concatenate(list(random_crops(images, KEYS, size=10, per_image=2, seed=0)))
    expected = np.cov(crops.mean(axis=(1, 2)), rowvar=False)
    np.testing.assert_allclose(found.crops.covariance, expected, rtol=1e-5)
    left, right = (part.mean(axis=(1, 2)) for part in np.split(images, 2, axis=2))
    together = ((left - left.mean(axis=0)) * (right - right.mean(axis=0))).sum()
    apart = [((part - part.mean(axis=0)) ** 2).sum() for part in (left, right)]
    assert found.halves.correlation() == pytest.approx(together / np.sqrt(np.prod(apart)))
    for ours, theirs in zip(found.steps.means(), step_maps([images]), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("size", [1, 7, 24])
def test_crops_and_steps_alone_are_those_of_the_whole(images: np.ndarray, size: int) -> None:
    starts = range(0, 24, size)
    batches = ((KEYS[start:][:size], images[start : start + size]) for start in starts)
    crops, steps = collect_crops(batches, JUDGE)
    whole = collected(images, size)
    assert crops.count == 48
    np.testing.assert_array_equal(crops.covariance, whole.crops.covariance)
    np.testing.assert_array_equal(steps.means()[0], whole.steps.means()[0])
    with pytest.raises(ValueError, match="found no image, at least one is needed"):
        collect_crops([], JUDGE)


def test_of_many_images_some_features_are_kept(
    images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "KEPT", 5)
    found, whole = collected(images, 7), images.mean(axis=(1, 2))
    assert found.kept.tolist() == [0, 6, 12, 17, 23]
    np.testing.assert_allclose(found.features, whole[found.kept], rtol=1e-5)
    assert len(found.thumbs) == 5
    assert found.pooled.count == 24


def test_arrays_come_back(images: np.ndarray) -> None:
    found = collected(images, 8)
    again = Statistics.from_arrays({name: of.copy() for name, of in found.arrays().items()})
    for more in (0, 5):  # what came back takes in more vectors
        for part in (found.pooled, again.pooled):
            part.add(np.arange(6.0).reshape(2, 3) + more)
        assert found.arrays().keys() == again.arrays().keys()
        for name, array in found.arrays().items():
            np.testing.assert_array_equal(again.arrays()[name], array)


def test_crops_depend_on_key_and_seed_alone(images: np.ndarray) -> None:
    def crops(order: list[int], seed: int = 0) -> np.ndarray:
        keys, chosen = KEYS[order], images[order]
        return np.stack(list(random_crops(chosen, keys, size=10, per_image=3, seed=seed)))

    whole = crops(list(range(24)))
    assert whole.shape == (3, 24, 10, 10, 3)
    np.testing.assert_array_equal(crops([5, 2]), whole[:, [5, 2]])
    assert (crops([5, 2], seed=1) != whole[:, [5, 2]]).any()
    assert (whole[0] != whole[1]).any()


def test_crops_lie_anywhere_in_the_image() -> None:
    """Pixels are numbered; the only crop of full size is the image."""
    image = np.arange(5 * 7, dtype=np.uint8).reshape(1, 5, 7, 1).repeat(3, axis=3)
    corners = {
        int(crop[0, 0, 0, 0])
        for crop in random_crops(image, np.array([3]), size=5, per_image=50, seed=0)
    }
    assert corners == {0, 1, 2}


def test_wrong_counts_are_refused(images: np.ndarray) -> None:
    with pytest.raises(ValueError, match="found 24 images, expected are 25"):
        collected(images, 8, count=25)
    with pytest.raises(ValueError, match="found 1 images, expected are 1, at least 2"):
        collected(images[:1], 8, count=1)


def test_features_that_are_no_numbers_are_refused(images: np.ndarray) -> None:
    network = {torch.device("cpu"): lambda x: (x.float().log()[..., 0, 0],)}
    broken = Extractor("fake", "Fake", "none", "0" * 64, network)
    images = images.copy()
    images[3, 0, 0] = 0
    with pytest.raises(PatchDMError, match="extractor 'fake': found features that are no finite"):
        broken.features(images)
