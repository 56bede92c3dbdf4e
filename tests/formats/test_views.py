"""Views of a photograph: what they show, and what they depend on."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from patchdm.formats.images import fit, read_views
from patchdm.formats.views import View, view_of
from tests.photographs import photograph

SIZES = st.tuples(st.integers(1, 500), st.integers(1, 500))


def digest(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


@given(
    photograph=SIZES,
    image=SIZES,
    scale=st.floats(0.01, 1),
    x=st.floats(0, 1),
    y=st.floats(0, 1),
)
def test_boxes_lie_in_the_photograph_and_have_the_images_proportions(
    photograph: tuple[int, int], image: tuple[int, int], scale: float, x: float, y: float
) -> None:
    left, top, right, bottom = View(scale, x, y).box(photograph, image)
    near = 1e-9 * max(photograph)
    assert -near <= left < right <= photograph[0] + near
    assert -near <= top < bottom <= photograph[1] + near
    assert (right - left) * image[1] == pytest.approx((bottom - top) * image[0])
    largest = max((right - left) / photograph[0], (bottom - top) / photograph[1])
    assert largest == pytest.approx(scale)


def test_views_are_the_whole_parts_and_the_mirrored_whole() -> None:
    views = [view_of(digest(0), number, 5, (0.5, 0.8)) for number in range(6)]
    assert views[0] == View()
    assert views[5] == View(mirrored=True)
    assert len({view[:3] for view in views[1:5]}) == 4
    assert view_of(digest(1), 1, 5, (0.5, 0.8)) != views[1]
    assert view_of(digest(0), 1, 2, (0.5, 0.8)) == views[1]  # whatever their number


def test_parts_are_of_all_scales_and_places_and_half_of_them_mirrored() -> None:
    parts = [view_of(digest(n), k, 9, (0.4, 0.9)) for n in range(250) for k in range(1, 9)]
    scale, x, y, mirrored = np.array(parts, float).T
    for values, low, high in ((scale, 0.4, 0.9), (x, 0, 1), (y, 0, 1)):
        shares, _ = np.histogram(values, bins=5, range=(low, high))
        assert shares.sum() == len(parts)
        assert abs(shares / len(parts) - 0.2).max() < 0.04
    assert abs(mirrored.mean() - 0.5) < 0.05
    assert abs(np.corrcoef([scale, x, y, mirrored])[np.triu_indices(4, 1)]).max() < 0.1


def test_images_show_their_views() -> None:
    image = photograph(0, 96, 48)
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    part = View(0.5, 1.0, 0.0)
    views = (View(), part, part._replace(mirrored=True))
    (whole, right, mirrored), size = read_views(file, 24, 12, views)
    assert size == (96, 48)
    np.testing.assert_array_equal(whole, fit(image, 24, 12))
    # The filter looks a few pixels beyond the part.
    expected = fit(image[:24, 48:], 24, 12).astype(int)
    assert np.abs(right.astype(int) - expected)[:-4, 4:].max() <= 1
    np.testing.assert_array_equal(mirrored, right[:, ::-1])


def test_large_jpegs_are_halved_for_the_smallest_part() -> None:
    """A photograph is decoded once for all views, however many are asked for at a time."""
    image = np.asarray(Image.fromarray(photograph(1, 96, 48)).resize((2048, 1024)))
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=95)
    part = View(0.25, 0.3, 0.6)
    (exact,), _ = read_views(file, 128, 64, [part], least_scale=0.01)
    (found, _), _ = read_views(file, 128, 64, [part, View()], least_scale=0.25)
    (again,), _ = read_views(file, 128, 64, [part], least_scale=0.25)
    np.testing.assert_array_equal(found, again)
    assert np.abs(found.astype(int) - exact.astype(int)).mean() < 1
