from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from patchdm.backbones import efficientnet
from patchdm.config import Params
from patchdm.errors import PatchDMError
from patchdm.formats.patch_store import PatchStore
from patchdm.metrics.extractors import load_extractor
from patchdm.metrics.fidelity import kid
from patchdm.metrics.judge import Judge
from patchdm.metrics.manifolds import radii
from patchdm.metrics.neighbours import nearest, thumbnails
from patchdm.metrics.reference import describe, read_reference
from patchdm.metrics.seams import score_of_maps, step_maps
from stages._common import PATCHES, REFERENCE
from stages.reference import reference
from tests.photographs import contents
from tests.stages.tiny import tiny_params, write_tiny_store


@pytest.fixture
def params(tmp_dir: Path, landscapes: Path) -> Params:
    write_tiny_store(tmp_dir / PATCHES, landscapes)
    return tiny_params(evaluate={"batch_size": 5, "nearest_k": 2})


def test_statistics_are_those_of_the_training_images(params: Params) -> None:
    reference(params)
    store, extractor = PatchStore(PATCHES), load_extractor("efficientnet-lite0", None, "cpu")
    train, test = (store.images(store.rows(split)) for split in ("train", "test"))
    features = extractor.features(train).pooled
    held_out = extractor.features(test).pooled

    judge = Judge(extractor, params.evaluate, seed=0, patch_size=8)
    found = read_reference(REFERENCE, describe(store, judge))

    real = found.real
    np.testing.assert_allclose(real.features, features, atol=1e-4)
    np.testing.assert_allclose(real.pooled.mean, features.mean(axis=0), atol=1e-5)
    covariance = np.cov(features.astype(np.float64), rowvar=False)
    np.testing.assert_allclose(real.pooled.covariance, covariance, atol=1e-4)
    assert real.crops.count == 18 * params.evaluate.crops_per_image
    assert real.spatial is None
    np.testing.assert_allclose(found.radii, radii(features, 2), rtol=1e-4)
    np.testing.assert_array_equal(real.thumbs, thumbnails(train))
    distances = nearest(held_out, features).distances
    np.testing.assert_allclose(found.held_out_features, distances, rtol=1e-4)
    assert found.sets.loc["train", "seam"] == pytest.approx(
        score_of_maps(*step_maps([train]), 8), abs=1e-4
    )
    assert found.sets["n"].to_dict() == {"train": 18, "blurred": 18, "test": 3}
    assert found.sets.loc["blurred", "fid"] > 10
    np.testing.assert_allclose(found.unseen, held_out, atol=1e-4)
    expected = kid(features, held_out, subset_size=params.evaluate.kid_subset_size, seed=0).mean
    assert found.sets.loc["train", "kid_unseen"] == pytest.approx(expected, abs=1e-4)
    assert np.isnan(found.sets.loc["test", "kid_unseen"])


def test_it_says_what_it_is_of(params: Params) -> None:
    reference(params)
    about = json.loads((REFERENCE / "reference.json").read_text())
    assert about["extractor"] == "efficientnet-lite0"
    assert about["resizer"].startswith("bilinear 224x224")
    assert about["crop_size"] == params.evaluate.crop_size
    assert len(about["data_hash"]) == 64


def test_the_same_images_give_the_same_bytes(params: Params) -> None:
    reference(params)
    first = contents(REFERENCE)
    reference(params)
    assert contents(REFERENCE) == first


def test_more_neighbours_than_images_are_refused(params: Params) -> None:
    with pytest.raises(PatchDMError, match="found 18 train images, expected 19 or more"):
        reference(_with_k(params, 18))


def _with_k(params: Params, k: int) -> Params:
    evaluate = params.evaluate.model_copy(update={"nearest_k": k})
    return params.model_copy(update={"evaluate": evaluate})


def test_features_that_are_no_numbers_are_refused(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_weights = efficientnet.read_weights

    def damaged(path: Path) -> dict[str, object]:
        state = read_weights(path)
        state["_bn1.bias"][0] = float("nan")
        return state

    monkeypatch.setattr(efficientnet, "read_weights", damaged)
    with pytest.raises(PatchDMError, match="'efficientnet-lite0': found features that are no fin"):
        reference(params)
    assert not REFERENCE.exists()
