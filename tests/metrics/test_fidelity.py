from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torch_fidelity
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torch_fidelity import feature_extractor_inceptionv3
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from patchdm.errors import PatchDMError
from patchdm.metrics.extractors import Extractor, load_extractor
from patchdm.metrics.fidelity import extract, fidelity
from patchdm.metrics.seams import blur8
from patchdm.models.backbones import state_hash


@pytest.fixture(scope="module")
def extractor() -> Extractor:
    return load_extractor("efficientnet-lite0", None, "cpu")


@pytest.fixture(scope="module")
def images(landscapes: Path) -> np.ndarray:
    """24 crops of landscapes, (24, 32, 48, 3) uint8."""
    whole = [np.asarray(Image.open(path)) for path in sorted(landscapes.iterdir())]
    return np.stack([crop for image in whole for crop in (image[:32, :48], image[16:, 48:])])


@pytest.fixture(scope="module")
def features(extractor: Extractor, images: np.ndarray) -> Tensor:
    return extract([images[:16], images[16:]], extractor)


class _Tensors(Dataset[Tensor]):
    def __init__(self, images: np.ndarray) -> None:
        self.images = torch.from_numpy(images).permute(0, 3, 1, 2)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


def _compare(a: Tensor, b: Tensor, size: int = 10, seed: int = 0) -> dict[str, float]:
    return dict(fidelity(a, b, kid_subset_size=size, kid_seed=seed))


def test_a_set_against_itself_is_at_distance_zero(features: Tensor) -> None:
    result = _compare(features, features, size=24)
    assert result["fid"] == pytest.approx(0, abs=1e-3)
    assert result["kid"] <= 0  # unbiased: equal sets come out just below zero


def test_the_blurred_are_further_away_than_other_photographs(
    features: Tensor, extractor: Extractor, images: np.ndarray
) -> None:
    blurred = extract([blur8(images)], extractor)
    near, far = _compare(features[:12], features[12:]), _compare(blurred[:12], features[12:])
    assert far["fid"] > near["fid"] + 10
    assert far["kid"] > near["kid"]


def test_numbers_are_those_of_torch_fidelity(
    features: Tensor, extractor: Extractor, images: np.ndarray
) -> None:
    """The whole way: its data loading, its call of our registered extractor, its metrics."""
    blurred = blur8(images)
    theirs = torch_fidelity.calculate_metrics(
        input1=_Tensors(blurred),
        input2=_Tensors(images),
        feature_extractor="efficientnet-lite0",
        fid=True,
        kid=True,
        kid_subset_size=20,
        rng_seed=7,
        batch_size=8,
        cuda=False,
        cache=False,
        save_cpu_ram=True,
        verbose=False,
    )
    ours = _compare(extract([blurred], extractor), features, size=20, seed=7)
    assert ours["fid"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-3)
    assert ours["kid"] == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-3)
    assert ours["kid_std"] == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-3)


def test_order_does_not_matter(features: Tensor) -> None:
    a, b = features[:12], features[12:]
    shuffled = a[torch.randperm(12, generator=torch.Generator().manual_seed(0))]
    size_of_all = 12
    expected, result = _compare(a, b, size_of_all), _compare(shuffled, b, size_of_all)
    assert result["fid"] == pytest.approx(expected["fid"], rel=1e-6)
    assert result["kid"] == pytest.approx(expected["kid"], rel=1e-6)


def test_batches_do_not_matter(features: Tensor, extractor: Extractor, images: np.ndarray) -> None:
    def one_by_one() -> Iterator[np.ndarray]:
        for image in images:
            yield image[None]

    torch.testing.assert_close(extract(one_by_one(), extractor), features, rtol=1e-4, atol=1e-4)


def test_fid_of_gaussians_is_the_closed_form() -> None:
    """|m1 - m2|^2 + sum (s1 - s2)^2 for diagonal covariances."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(4000, 4, generator=generator, dtype=torch.float64)
    noise = noise - noise.mean(0)
    root = torch.linalg.cholesky(torch.cov(noise.T))
    white = torch.linalg.solve_triangular(root, noise.T, upper=False).T  # covariance 1, exactly
    s1, s2 = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([2.0, 2.0, 1.0, 0.5])
    shift = torch.tensor([1.0, 0.0, -2.0, 0.0])
    expected = (shift.square().sum() + (s1 - s2).square().sum()).item()
    result = _compare(white * s1, white.flip(0) * s2 + shift)
    assert result["fid"] == pytest.approx(expected, rel=1e-6)


def test_kid_follows_its_seed_and_never_asks_for_more_than_there_is(features: Tensor) -> None:
    a, b = features[:14], features[14:]
    assert _compare(a, b, size=5, seed=1) == _compare(a, b, size=5, seed=1)
    assert _compare(a, b, size=5, seed=1)["kid"] != _compare(a, b, size=5, seed=2)["kid"]
    assert _compare(a, b, size=1000) == _compare(a, b, size=10)


def test_one_image_has_no_covariance(features: Tensor) -> None:
    with pytest.raises(ValueError, match="found 1 images"):
        _compare(features[:1], features)


def test_unknown_extractors_are_named() -> None:
    with pytest.raises(PatchDMError, match="'vgg': unknown, allowed are efficientnet-lite0, "):
        load_extractor("vgg", None, "cpu")


def test_inception_takes_a_local_weights_file(
    tmp_path: Path, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random weights of its own shapes, since the real ones cannot be had offline."""
    with monkeypatch.context() as patch:
        patch.setattr(
            feature_extractor_inceptionv3, "load_state_dict_from_url", lambda *_, **__: {}
        )
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        random = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    path = tmp_path / "inception.pth"
    torch.save(random.state_dict(), path)

    inception = load_extractor("inception-v3-compat", path, "cpu")

    assert inception.label == "InceptionV3"
    assert inception.weights_hash == state_hash(random.state_dict())
    batch = torch.from_numpy(images[:2]).permute(0, 3, 1, 2)
    torch.testing.assert_close(inception.features(images[:2]), random(batch)[0])


def test_missing_or_wrong_weights_are_named(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    with pytest.raises(PatchDMError, match=r"weights\.pth: weights file not found"):
        load_extractor("inception-v3-compat", path, "cpu")
    torch.save({"fc.weight": torch.zeros(2, 2)}, path)
    for name in ("inception-v3-compat", "efficientnet-lite0"):
        with pytest.raises(PatchDMError, match=r"weights\.pth: weights do not fit"):
            load_extractor(name, path, "cpu")


def test_weights_that_cannot_be_downloaded_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(feature_extractor_inceptionv3, "load_state_dict_from_url", no_network)
    with pytest.raises(PatchDMError, match="set a local weights file"):
        load_extractor("inception-v3-compat", None, "cpu")
