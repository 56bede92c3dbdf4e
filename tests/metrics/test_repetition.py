from __future__ import annotations

import math

import numpy as np
import pytest

from patchdm.metrics.repetition import parts_of, repetition


def test_parts_are_cut_row_by_row_and_the_rest_is_left_out():
    image = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(1, 5, 7, 3)
    parts = parts_of(np.concatenate([image, image + 1]), 2, 3)
    assert parts.shape == (12, 2, 2, 3)
    assert np.array_equal(parts[2], image[0, :2, 4:6])
    assert np.array_equal(parts[3], image[0, 2:4, :2])
    assert np.array_equal(parts[9], image[0, 2:4, :2] + 1)


def test_it_compares_parts_at_different_places():
    # Within: |0 - 1| and |2 - 5|. Between, at different places: |0 - 5| and |1 - 2|.
    features = np.array([[[0.0], [1.0]], [[2.0], [5.0]]], np.float32)
    assert repetition(features) == pytest.approx(1 - 2 / 3, abs=1e-6)


def test_copies_of_one_part_have_1_and_independent_parts_0():
    draws = np.random.default_rng(0).normal(size=(200, 4, 16)).astype(np.float32)
    assert repetition(draws) == pytest.approx(0, abs=0.01)
    assert repetition(np.broadcast_to(draws[:, :1], draws.shape)) == pytest.approx(1, abs=1e-3)
    # A shared composition, such as a sky above, is none.
    assert repetition(draws + 9 * draws[0]) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("shape", [(1, 4, 3), (3, 1, 3), (1, 1, 3)])
def test_one_image_or_one_part_says_nothing(shape: tuple[int, ...]):
    assert math.isnan(repetition(np.ones(shape, np.float32)))
    assert math.isnan(repetition(np.random.default_rng(0).normal(size=shape).astype(np.float32)))
