"""Patch geometry against properties, and against the paper's quarters written out by index."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from patchdm.grid import PatchGrid, collage, merge, pad_and_split, positions, split

COUNT = st.integers(1, 4)
HALF = st.integers(1, 4)


def image(batch: int, rows: int, cols: int, p: int) -> Tensor:
    """Return images whose values are all different, and different from the padding's 0."""
    shape = (batch, 2, rows * p, cols * p)
    return 1 + torch.arange(torch.Size(shape).numel(), dtype=torch.float64).reshape(shape)


@given(batch=COUNT, rows=COUNT, cols=COUNT, p=st.integers(1, 5))
def test_merge_undoes_split(batch: int, rows: int, cols: int, p: int):
    x = image(batch, rows, cols, p)
    patches = split(x, p)
    assert patches.shape == (batch * rows * cols, 2, p, p)
    assert torch.equal(merge(patches, rows, cols), x)


@given(batch=COUNT, rows=COUNT, cols=COUNT, half=HALF)
def test_split_stacks_in_reading_order(batch: int, rows: int, cols: int, half: int):
    p = 2 * half
    x = image(batch, rows, cols, p)
    patches = split(x, p)
    for b in range(batch):
        for i in range(rows):
            for j in range(cols):
                tile = x[b, :, i * p : (i + 1) * p, j * p : (j + 1) * p]
                assert torch.equal(patches[(b * rows + i) * cols + j], tile)


@given(batch=COUNT, rows=COUNT, cols=COUNT, half=HALF)
def test_padding_is_zero_and_the_rest_is_the_image(batch: int, rows: int, cols: int, half: int):
    x = image(batch, rows, cols, 2 * half)
    patches = pad_and_split(x, 2 * half)
    assert patches.shape[0] == batch * (rows + 1) * (cols + 1)
    canvas = merge(patches, rows + 1, cols + 1)
    assert torch.equal(canvas[..., half:-half, half:-half], x)
    assert torch.count_nonzero(canvas) == x.numel()


@given(batch=COUNT, rows=COUNT, cols=COUNT, half=HALF)
def test_collage_of_the_padded_image_is_the_image(batch: int, rows: int, cols: int, half: int):
    x = image(batch, rows, cols, 2 * half)
    shifted = collage(pad_and_split(x, 2 * half), rows, cols)
    assert torch.equal(merge(shifted, rows, cols), x)


@given(batch=COUNT, rows=COUNT, cols=COUNT, half=HALF)
def test_collage_takes_the_quarters_that_meet(batch: int, rows: int, cols: int, half: int):
    """P1..P4 of the paper: each neighbour gives the quarter that touches the shared corner."""
    z = image(batch * (rows + 1) * (cols + 1), 1, 1, 2 * half)
    shifted = collage(z, rows, cols)
    assert shifted.shape == (batch * rows * cols, *z.shape[1:])

    grid = z.reshape(batch, rows + 1, cols + 1, *z.shape[1:])
    first, second = slice(0, half), slice(half, None)
    for b in range(batch):
        for i in range(rows):
            for j in range(cols):
                p1 = grid[b, i, j, :, second, second]
                p2 = grid[b, i, j + 1, :, second, first]
                p3 = grid[b, i + 1, j, :, first, second]
                p4 = grid[b, i + 1, j + 1, :, first, first]
                quarters = torch.cat([torch.cat([p1, p2], -1), torch.cat([p3, p4], -1)], -2)
                assert torch.equal(shifted[(b * rows + i) * cols + j], quarters)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_collage_keeps_the_memory_layout(layout: torch.memory_format):
    z = torch.randn(2 * 12, 3, 4, 4)
    shifted = collage(z.to(memory_format=layout), 2, 3)
    assert shifted.is_contiguous(memory_format=layout)
    assert torch.equal(shifted, collage(z, 2, 3))


def test_positions_of_padded_and_shifted_patches():
    padded = [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    assert positions(1, 2, shifted=False).tolist() == padded
    assert positions(1, 2, shifted=True).tolist() == [[0.5, 0.5], [0.5, 1.5]]
    assert positions(1, 2, shifted=True).dtype == torch.float32


@given(rows=COUNT, cols=COUNT)
def test_a_shifted_patch_sits_amid_its_four_neighbours(rows: int, cols: int):
    plane = positions(rows, cols, shifted=False).reshape(rows + 1, cols + 1, 2)
    amid = (plane[:-1, :-1] + plane[:-1, 1:] + plane[1:, :-1] + plane[1:, 1:]) / 4
    assert torch.equal(positions(rows, cols, shifted=True), amid.reshape(-1, 2))


@pytest.mark.parametrize(("height", "width", "name"), [(12, 8, "height"), (8, 12, "width")])
def test_sizes_that_are_no_multiple_are_named(height: int, width: int, name: str):
    message = f"{name} is 12, expected multiples of the patch size 8"
    for cut in (split, pad_and_split):
        with pytest.raises(ValueError, match=message):
            cut(torch.zeros(1, 3, height, width), 8)
    with pytest.raises(ValueError, match=message):
        PatchGrid.of(height, width, 8)


def test_an_empty_image_is_refused():
    with pytest.raises(ValueError, match="height is 0"):
        PatchGrid.of(0, 8, 8)


def test_odd_sides_have_no_half():
    with pytest.raises(ValueError, match="patch size is 5, expected even"):
        pad_and_split(torch.zeros(1, 3, 10, 10), 5)
    with pytest.raises(ValueError, match="side 5, expected even"):
        collage(torch.zeros(4, 3, 5, 5), 1, 1)


def test_counts_that_do_not_fit_the_grid_are_named():
    with pytest.raises(ValueError, match=r"found 5 patches.*2 \* 3"):
        merge(torch.zeros(5, 3, 4, 4), 2, 3)
    with pytest.raises(ValueError, match=r"found 6 patches.*3 \* 4"):
        collage(torch.zeros(6, 3, 4, 4), 2, 3)  # not padded: 2 x 3 instead of 3 x 4
