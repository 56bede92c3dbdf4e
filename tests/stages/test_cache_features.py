from __future__ import annotations

from pathlib import Path

import numpy as np
import open_clip
import pandas as pd
import pytest
import torch
from PIL import Image

from patchdm.backbones.load import load_backbone
from patchdm.errors import PatchDMError
from patchdm.formats.patch_store import PatchStore
from patchdm.formats.vectors import read_vectors, write_vectors
from patchdm.models.semantic import CodeTable
from stages import cache_features as stage
from stages._common import FEATURES, PATCHES, STATE
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


@pytest.mark.parametrize("code", ["encoder", "none"])
def test_without_a_code_table_nothing_is_computed(code: str) -> None:
    features = {"backbone": "open_clip:ViT-B-16/openai"}  # which cannot be had here
    cache_features(tiny_params(features=features, model={"code": code}))
    images, vectors, _ = read_vectors(FEATURES)
    assert len(images) == len(vectors) == 0


def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "PART_IMAGES", 8)
    params = tiny_params(features={"batch_size": 4})  # 18 images: parts of 8, 8 and 2
    cache_features(params)
    first = FEATURES.read_bytes()
    FEATURES.unlink()
    assert not list(STATE.rglob("*.npy"))

    seen: list[int] = []
    images = PatchStore.images

    def killed(store: PatchStore, rows: np.ndarray) -> np.ndarray:
        if len(seen) >= 3 * 4:
            raise KeyboardInterrupt
        seen.extend(rows)
        return images(store, rows)

    with monkeypatch.context() as patch:
        patch.setattr(PatchStore, "images", killed)
        with pytest.raises(KeyboardInterrupt):
            cache_features(params)
    assert not FEATURES.exists()
    assert len(list(STATE.rglob("*.npy"))) == 1

    computed: list[int] = []

    def counted(store: PatchStore, rows: np.ndarray) -> np.ndarray:
        computed.extend(rows)
        return images(store, rows)

    monkeypatch.setattr(PatchStore, "images", counted)
    cache_features(params)
    assert computed == list(range(8, 18))
    assert FEATURES.read_bytes() == first


def test_features_of_open_clip_start_a_code_table(tiny_clip: Path) -> None:
    features = {"backbone": "open_clip:tiny-vit", "weights": str(tiny_clip)}
    cache_features(tiny_params(features=features))
    images, vectors, metadata = read_vectors(FEATURES)
    store = PatchStore(PATCHES)
    model, _, transform = open_clip.create_model_and_transforms("tiny-vit", str(tiny_clip))
    pictures = torch.stack([transform(Image.fromarray(x)) for x in store.images(images)])
    with torch.no_grad():
        expected = model.eval().encode_image(pictures)
    np.testing.assert_allclose(vectors, expected.numpy(), atol=1e-5)
    table = CodeTable.from_features(vectors, 8, metadata["backbone"])
    assert table.codes.shape == (18, 8)


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
    with pytest.raises(ValueError, match=r"expected \(2, dim\)"):
        write_vectors(FEATURES, np.arange(2), np.zeros((3, 4)), {})


def test_nothing_is_written_when_weights_are_missing() -> None:
    with pytest.raises(PatchDMError, match=r"gone\.pth: weights file not found"):
        cache_features(tiny_params(features={"weights": "gone.pth"}))
    assert not FEATURES.exists()
