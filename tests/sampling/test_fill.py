"""Nearest known pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from patchdm.sampling.fill import nearest_known, replicate


def test_known_pixels_are_their_own_nearest_and_others_have_the_nearest():
    mask = np.zeros((5, 9), bool)
    mask[:, 2:] = True
    nearest, distance = nearest_known(mask)
    rows, cols = np.mgrid[:5, :9]
    np.testing.assert_array_equal(nearest, rows * 9 + np.minimum(cols, 1))
    np.testing.assert_allclose(distance, np.maximum(cols - 1, 0), rtol=0.02)


def test_scattered_pixels_agree_with_a_search():
    generator = np.random.default_rng(0)
    mask = generator.random((16, 24)) < 0.8
    nearest, distance = nearest_known(mask)
    known = np.argwhere(~mask)
    for place in np.argwhere(mask):
        least = np.sqrt(((known - place) ** 2).sum(axis=1)).min()
        found = np.array(divmod(nearest[tuple(place)], 24))
        assert not mask[tuple(found)]
        assert np.hypot(*(found - place)) <= least * 1.05
        assert distance[tuple(place)] == pytest.approx(least, rel=0.03)


def test_where_nothing_is_known_all_is_infinitely_far():
    assert np.isinf(nearest_known(np.ones((3, 4), bool))[1]).all()


def test_replicate_continues_the_border():
    images = torch.arange(2 * 3 * 4 * 5, dtype=torch.float32).reshape(2, 3, 4, 5)
    mask = torch.zeros(2, 1, 4, 5, dtype=torch.bool)
    mask[0, ..., 3:] = True
    mask[1, :, :1] = True
    filled = replicate(images, mask)
    assert torch.equal(filled[0], images[0][..., [0, 1, 2, 2, 2]])
    assert torch.equal(filled[1], images[1][:, [1, 1, 2, 3]])


def test_replicate_needs_a_known_pixel():
    with pytest.raises(ValueError, match="no pixel is known"):
        replicate(torch.zeros(1, 3, 2, 2), torch.ones(1, 1, 2, 2, dtype=torch.bool))
