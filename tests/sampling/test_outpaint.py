"""Canvases: whole patches around an image of any size."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from patchdm.sampling.outpaint import canvas_around

P = 8
margins = st.integers(0, 20)


@given(
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    left=margins,
    top=margins,
    right=margins,
    bottom=margins.filter(bool),
)
def test_the_smallest_canvas_of_whole_patches_holds_image_and_margins(
    height: int, width: int, left: int, top: int, right: int, bottom: int
):
    images = torch.rand(2, 3, height, width) + 1
    canvas = canvas_around(images, left=left, top=top, right=right, bottom=bottom, patch_size=P)
    asked = canvas.known[..., canvas.rows, canvas.cols]
    assert asked.shape[-2:] == (top + height + bottom, left + width + right)
    assert torch.equal(asked[..., top : top + height, left : left + width], images)
    assert torch.equal(canvas.mask, canvas.known[:, :1] == 0)
    for side, needed in zip(canvas.known.shape[-2:], asked.shape[-2:], strict=True):
        assert side % P == 0
        assert 0 <= side - needed < P


@pytest.mark.parametrize(
    ("top", "size", "bottom", "row"),
    [
        (0, 16, 5, 0),  # nothing above: the image stays in the first row
        (8, 16, 0, 8),
        (5, 16, 0, 8),  # three rows of surplus above
        (2, 16, 5, 2),  # its six rows would need a further row of patches
    ],
)
def test_the_image_starts_at_a_patch_border_where_it_can(
    top: int, size: int, bottom: int, row: int
):
    images = torch.ones(1, 3, size, 8)
    canvas = canvas_around(images, left=1, top=top, right=0, bottom=bottom, patch_size=P)
    known = (~canvas.mask[0, 0]).nonzero()
    assert known.amin(dim=0).tolist() == [row, 8]


@pytest.mark.parametrize(
    ("margins", "message"),
    [
        ((0, 0, 0, 0), "`left`, `top`, `right` and `bottom` are 0, expected one above 0"),
        ((1, -2, 0, 0), "`top` is -2, expected at least 0"),
    ],
)
def test_margins_that_do_not_fit_are_named(margins: tuple[int, int, int, int], message: str):
    left, top, right, bottom = margins
    with pytest.raises(ValueError, match=message):
        canvas_around(
            torch.ones(1, 3, 8, 8), left=left, top=top, right=right, bottom=bottom, patch_size=P
        )
