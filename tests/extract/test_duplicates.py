"""Photographs alike: which copies are found, what is not taken for one, and time."""

from __future__ import annotations

import io
import time
from collections.abc import Callable

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance, ImageOps

from patchdm.extract.duplicates import (
    Thumbnails,
    alike,
    difference_hash,
    evidence,
    groups_of,
    needed_evidence,
    thumbnail,
)
from patchdm.formats.images import Pixels, fit, read_image
from tests.photographs import photograph

COUNT = 195

COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "half": lambda image: image.resize((256, 128)),
    "quarter": lambda image: image.resize((128, 64)),
    "double": lambda image: image.resize((1024, 512)),
    "squeezed": lambda image: image.resize((500, 256)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.9),
    "grey": lambda image: image.convert("L"),
    "mirrored": ImageOps.mirror,
    "mirrored, half, grey": lambda image: ImageOps.mirror(image.resize((256, 128)).convert("L")),
    "cropped around": lambda image: image.crop((5, 3, 507, 253)),
    "cropped at the left": lambda image: image.crop((10, 0, 512, 256)),
}
"""Name -> what is done to a photograph of 512 x 256."""


def saved(image: Image.Image, quality: int = 60) -> Pixels:
    """Return the training image, 128 x 64, of a picture that was saved as a JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return fit(read_image(buffer), 128, 64)


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    whole = (Image.fromarray(photograph(number, 768, 384)) for number in range(COUNT))
    return [image.resize((512, 256)) for image in whole]


@pytest.fixture(scope="module")
def originals(pictures: list[Image.Image]) -> Thumbnails:
    return np.stack([thumbnail(fit(np.asarray(picture), 128, 64)) for picture in pictures])


def found(originals: Thumbnails, copies: Thumbnails) -> float:
    """Return the share of copies in the group of their original; no two originals may be in one."""
    pairs = alike(np.concatenate([originals, copies]))
    group = groups_of(2 * COUNT, pairs["like"].to_numpy(), pairs["place"].to_numpy())
    assert group[:COUNT].tolist() == list(range(COUNT))
    alone = group[COUNT:] == np.arange(COUNT, 2 * COUNT)
    assert (alone | (group[COUNT:] == np.arange(COUNT))).all()
    return float((group[COUNT:] == np.arange(COUNT)).mean())


@pytest.mark.parametrize("quality", [30, 60, 95])
def test_photographs_saved_again_are_found(
    pictures: list[Image.Image], originals: Thumbnails, quality: int
) -> None:
    copies = np.stack([thumbnail(saved(picture, quality)) for picture in pictures])
    assert found(originals, copies) == 1


@pytest.mark.parametrize("name", COPIES)
def test_changed_photographs_are_found(
    pictures: list[Image.Image], originals: Thumbnails, name: str
) -> None:
    copies = np.stack([thumbnail(saved(COPIES[name](picture))) for picture in pictures])
    assert found(originals, copies) >= (0.98 if "cropped" in name else 1)


def test_pairs_say_who_and_how(originals: Thumbnails) -> None:
    thumbnails = np.concatenate([originals[:9], originals[3:4], originals[5:6, :, ::-1]])
    pairs = alike(thumbnails)
    assert pairs[["place", "like", "mirrored"]].to_numpy().tolist() == [
        [9, 3, False],
        [10, 5, True],
    ]
    assert np.isinf(pairs["evidence"]).all()


def test_simple_pictures_need_more_than_a_common_horizon() -> None:
    """Plain skies over plain ground correlate well and are different photographs."""
    y = np.arange(256)[:, None, None] * np.ones((1, 512, 3))
    scenes = []
    for horizon, slope in [(128, 0.0), (138, 0.04), (118, -0.04), (128, 0.08)]:
        x = np.arange(512)[None, :, None]
        scenes.append(np.where(y > horizon + slope * (x - 256), 60, 200).astype(np.uint8))
    thumbnails = np.stack([thumbnail(scene) for scene in scenes])
    gradients = np.diff(thumbnails.astype(float), axis=1).reshape(4, -1)
    assert np.corrcoef(gradients)[0, 1:].min() > 0.8
    assert evidence(thumbnails[:1], thumbnails[1:]).max() < needed_evidence(4)
    assert alike(thumbnails).empty


def test_images_without_structure_are_alike_only_when_equal() -> None:
    levels = [0, 0, 50, 51, 255]
    thumbnails = np.stack([thumbnail(np.full((32, 64, 3), level, np.uint8)) for level in levels])
    assert alike(thumbnails)["place"].tolist() == [1]


def test_none_and_one(originals: Thumbnails) -> None:
    assert alike(originals[:0]).empty
    assert alike(originals[:1]).empty
    assert alike(originals[:1].repeat(3, axis=0))["place"].tolist() == [1, 2]


def test_more_photographs_need_more_evidence() -> None:
    assert needed_evidence(2) == needed_evidence(1000)
    assert needed_evidence(10**6) - needed_evidence(10**5) == pytest.approx(2 * np.log(10))


def noise(count: int, seed: int = 0) -> Thumbnails:
    """Return thumbnails with the falling spectrum of photographs."""
    draws = np.random.default_rng(seed)
    coarse = draws.normal(size=(count, 4, 4)).astype(np.float32)
    fine = draws.normal(size=(count, 8, 8)).astype(np.float32)
    levels = np.stack([cv2.resize(c, (8, 8), interpolation=cv2.INTER_CUBIC) for c in coarse])
    return ((levels + 0.3 * fine).clip(-3, 3) * 8000 + 32000).astype(np.uint16)


def test_fifty_thousand_take_seconds_and_none_is_taken_for_another() -> None:
    thumbnails = noise(50_000)
    thumbnails[25_000:25_100] = thumbnails[:100] + np.uint16(3)
    thumbnails[25_100:25_200] = thumbnails[100:200, :, ::-1]
    start = time.process_time()
    pairs = alike(thumbnails)
    assert time.process_time() - start < 30
    assert pairs["place"].tolist() == list(range(25_000, 25_200))
    assert pairs["like"].tolist() == list(range(200))
    assert pairs["mirrored"].tolist() == [False] * 100 + [True] * 100


@pytest.mark.parametrize("kind", ["blank", "one photograph", "burst"])
def test_crowds_take_no_longer(kind: str, originals: Thumbnails) -> None:
    """Of many alike each is compared with few: 50,000 would be a billion pairs."""
    count = 50_000
    thumbnails = originals[:1].repeat(count, axis=0)
    if kind == "blank":
        thumbnails[:] = 65280
    elif kind == "burst":
        thumbnails += np.random.default_rng(0).integers(0, 256, thumbnails.shape, np.uint16)
    start = time.process_time()
    pairs = alike(thumbnails)
    assert time.process_time() - start < 30
    assert len(pairs) == count - 1
    assert isinstance(pairs, pd.DataFrame)


def test_difference_hash_ignores_compression_scale_and_brightness(
    pictures: list[Image.Image],
) -> None:
    for picture in pictures[::30]:
        expected = difference_hash(np.asarray(picture))
        for name in ("half", "brighter"):
            copy = np.asarray(COPIES[name](picture))
            assert (difference_hash(copy) ^ expected).bit_count() <= 4
