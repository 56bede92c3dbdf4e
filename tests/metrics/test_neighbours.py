from __future__ import annotations

import numpy as np
import pytest

from patchdm.metrics.neighbours import nearer_share, nearest, thumbnails


def test_the_nearest_is_found() -> None:
    others = np.array([[0, 0], [10, 0], [0, 10], [10, 0]], np.uint8)
    rows, distances = nearest(np.array([[9, 0], [1, 8], [0, 0]], np.uint8), others)
    assert rows.tolist() == [1, 2, 0]
    np.testing.assert_allclose(distances, [1, np.sqrt(5), 0])


def test_images_are_compared_pixel_by_pixel() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), np.uint8)
    order = [3, 0, 4, 1, 2]
    rows, distances = nearest(images[order], images)
    assert rows.tolist() == order
    assert not distances.any()
    difference = images[0].astype(float) - images[1]
    alone = nearest(images[:1], images[1:2]).distances[0]
    assert alone == pytest.approx(np.sqrt((difference**2).sum()))


@pytest.mark.parametrize(
    ("samples", "held_out", "share"),
    [
        ([0.0, 0.0], [1, 2, 3], 1),  # copies
        ([9.0], [1, 2, 3], 0),
        ([1.5], [1, 2, 3], 2 / 3),
        ([2.0], [1, 2, 3], 1.5 / 3),  # a tie counts half
        ([1, 2, 3], [3, 1, 2], 0.5),
    ],
)
def test_the_share_of_pairs_in_which_the_sample_is_nearer(
    samples: list[float], held_out: list[float], share: float
) -> None:
    assert nearer_share(np.array(samples), np.array(held_out)) == pytest.approx(share)


@pytest.mark.parametrize(
    ("size", "expected"), [((128, 64), (32, 16)), ((20, 24), (20, 24)), ((33, 33), (32, 32))]
)
def test_thumbnails_are_small(size: tuple[int, int], expected: tuple[int, int]) -> None:
    images = np.zeros((2, *size, 3), np.uint8)
    assert thumbnails(images).shape == (2, *expected, 3)


def test_thumbnails_are_means_of_areas() -> None:
    images = np.zeros((1, 64, 64, 3), np.uint8)
    images[0, 0, 0] = 200
    small = thumbnails(images)
    assert small[0, 0, 0].tolist() == [50, 50, 50]
    assert small[0, 1:].max() == 0
