from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from patchdm.data.patch_store import PatchStore
from patchdm.data.vectors import read_vectors, write_vectors
from patchdm.errors import PatchDMError
from patchdm.models.backbones import load_backbone
from stages._common import FEATURES, PATCHES
from stages.cache_features import cache_features
from tests.stages.tiny import tiny_params, write_tiny_store


@pytest.fixture(autouse=True)
def _store(tmp_dir: Path, landscapes: Path) -> None:
    write_tiny_store(tmp_dir / PATCHES, landscapes)


def test_every_training_image_has_the_features_of_its_own_pixels() -> None:
    cache_features(tiny_params(features={"batch_size": 4}))
    images, vectors, metadata = read_vectors(FEATURES)

    store = PatchStore(PATCHES)
    backbone = load_backbone("efficientnet-lite0", None, "cpu")
    assert images.tolist() == store.rows("train").tolist()
    np.testing.assert_allclose(vectors, backbone.features(store.images(images)), atol=1e-4)
    assert metadata == {"backbone": "efficientnet-lite0", "weights_hash": backbone.weights_hash}


def test_the_same_images_give_the_same_bytes() -> None:
    cache_features(tiny_params())
    first = FEATURES.read_bytes()
    FEATURES.unlink()
    cache_features(tiny_params())
    assert FEATURES.read_bytes() == first


def test_pandas_reads_the_table() -> None:
    write_vectors(FEATURES, np.array([3, 5]), np.arange(4.0).reshape(2, 2), {"key": "value"})
    table = pd.read_parquet(FEATURES)
    assert table["image"].tolist() == [3, 5]
    assert [row.tolist() for row in table["vector"]] == [[0, 1], [2, 3]]


def test_vectors_come_back_as_they_were_written() -> None:
    vectors = np.random.default_rng(0).standard_normal((3, 7)).astype(np.float32)
    write_vectors(FEATURES, np.array([2, 0, 1]), vectors, {"b": "2", "a": "1"})
    images, read, metadata = read_vectors(FEATURES)
    assert images.tolist() == [2, 0, 1]
    np.testing.assert_array_equal(read, vectors)
    assert metadata == {"a": "1", "b": "2"}


def test_what_is_no_table_of_vectors_is_named() -> None:
    with pytest.raises(PatchDMError, match=r"features\.parquet: not found"):
        read_vectors(FEATURES)
    FEATURES.write_bytes(b"PAR1 no parquet")
    with pytest.raises(PatchDMError, match=r"features\.parquet: not a table of vectors"):
        read_vectors(FEATURES)
    pd.DataFrame({"image": [1], "vector": [2.0]}).to_parquet(FEATURES)
    with pytest.raises(PatchDMError, match=r"features\.parquet: not a table of vectors"):
        read_vectors(FEATURES)


def test_vectors_must_match_their_images() -> None:
    with pytest.raises(ValueError, match=r"allowed are \(2, dim\)"):
        write_vectors(FEATURES, np.arange(2), np.zeros((3, 4)), {})


def test_nothing_is_written_when_weights_are_missing() -> None:
    with pytest.raises(PatchDMError, match=r"gone\.pth: weights file not found"):
        cache_features(tiny_params(features={"weights": "gone.pth"}))
    assert not FEATURES.exists()
