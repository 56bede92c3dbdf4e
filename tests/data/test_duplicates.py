"""Near-duplicates: what the hash ignores, and that no pair is missed or made up."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from patchdm.data.duplicates import MAX_DISTANCE, difference_hash, near_duplicates
from patchdm.data.images import Pixels, read_image
from tests.data.photographs import encoded, photograph


def distance(a: Pixels, b: Pixels) -> int:
    return (difference_hash(a) ^ difference_hash(b)).bit_count()


@pytest.mark.parametrize("number", [0, 30, 60, 90, 120])
def test_hash_ignores_compression_scale_and_brightness_and_tells_pictures_apart(
    number: int,
) -> None:
    image = photograph(number, 256, 128)
    picture = Image.fromarray(image)
    assert distance(image, read_image(io.BytesIO(encoded(image)))) <= MAX_DISTANCE
    assert distance(image, np.asarray(picture.resize((64, 32)))) <= MAX_DISTANCE
    brighter = ImageEnhance.Brightness(picture).enhance(1.1)
    assert distance(image, np.asarray(brighter)) <= MAX_DISTANCE
    others = [photograph(other, 256, 128) for other in range(0, 141, 20) if other != number]
    assert min(distance(image, other) for other in others) > MAX_DISTANCE


@pytest.mark.parametrize("spread", [0, 2, 4, 6])
def test_every_image_finds_its_first_near_one(spread: int) -> None:
    """Compared with all pairs; clusters of 20 whose hashes differ in some bits."""
    generator = np.random.default_rng(spread)
    centres = generator.integers(0, 2**64, 25, dtype=np.uint64).repeat(20)
    hashes = centres.copy()
    for _ in range(spread):
        hashes ^= np.uint64(1) << generator.integers(0, 64, len(hashes), dtype=np.uint64)
    generator.shuffle(hashes)
    distances = np.bitwise_count(hashes[:, None] ^ hashes)
    near = np.tril(distances <= MAX_DISTANCE, -1)
    found = near_duplicates(hashes)
    for row in found.itertuples():
        assert row.like < row.place
        assert row.distance == distances[row.place, row.like]
    # A pair of equal hashes stands for all of its images: the first of theirs is near, too.
    firsts = {place: int(near[place].argmax()) for place in np.flatnonzero(near.any(axis=1))}
    assert dict(zip(found["place"], found["like"], strict=True)) == firsts


def test_none_and_one() -> None:
    assert near_duplicates(np.zeros(0, np.uint64)).empty
    assert near_duplicates(np.zeros(1, np.uint64)).empty
    assert near_duplicates(np.zeros(3, np.uint64))["like"].tolist() == [0, 0]


def test_fifty_thousand_take_seconds() -> None:
    generator = np.random.default_rng(0)
    hashes = generator.integers(0, 2**64, 50_000, dtype=np.uint64)
    hashes[25_000:25_100] = hashes[:100] ^ np.uint64(5 << 40)
    start = time.process_time()
    found = near_duplicates(hashes)
    assert time.process_time() - start < 5
    assert found["place"].tolist() == list(range(25_000, 25_100))
    assert found["like"].tolist() == list(range(100))
