"""Training windows, read from a patch store without the rest of their images."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from patchdm.formats.images import Pixels
from patchdm.formats.patch_store import PatchStore, in_range
from patchdm.grid import PatchGrid


def read_windows(
    store: PatchStore, indices: ArrayLike, rows: ArrayLike, cols: ArrayLike, patch_size: int
) -> tuple[Pixels, NDArray[np.bool_]]:
    """Read one training window per index: the 2 x 2 padded patches from (row, col) on.

    The window is the square of side 2p whose corner lies at (row * p - p/2, col * p - p/2).
    The padding is zero in x_t, not in the pixels, so a mask shows where the image is.

    Args:
        store: of the images.
        indices: image of each window, (n,).
        rows, cols: position of each window, (n,), from 0 to R - 1 and C - 1.
        patch_size: p, an even divisor of height and width.

    Returns:
        Pixels, uint8 (n, 2p, 2p, 3), 0 in the padding; True inside the image,
        (n, 2p, 2p).

    Raises:
        ValueError: the patch size does not fit.
        IndexError: no such image or window.
    """
    grid = PatchGrid.of(store.height, store.width, patch_size)
    if patch_size % 2:
        raise ValueError(f"patch size is {patch_size}, expected even sizes")
    indices = in_range(indices, len(store), "image")
    tops = _corners(rows, grid.rows, patch_size)
    lefts = _corners(cols, grid.cols, patch_size)
    side = 2 * patch_size
    windows = np.zeros((len(indices), side, side, 3), np.uint8)
    buffer = np.empty((side, store.width, 3), np.uint8)
    places = zip(windows, indices.tolist(), tops.tolist(), lefts.tolist(), strict=True)
    for out, index, top, left in places:
        y, y_end = max(top, 0), min(top + side, store.height)
        x, x_end = max(left, 0), min(left + side, store.width)
        pixel_rows = buffer[: y_end - y]
        store.read(index, y, pixel_rows)
        out[y - top : y_end - top, x - left : x_end - left] = pixel_rows[:, x:x_end]
    inside_y = _inside(tops, side, store.height)
    inside_x = _inside(lefts, side, store.width)
    return windows, inside_y[:, :, None] & inside_x[:, None, :]


def _corners(positions: ArrayLike, count: int, patch_size: int) -> NDArray[np.int64]:
    """Return the first pixel of windows at grid positions, negative in the padding."""
    return in_range(positions, count, "window position") * patch_size - patch_size // 2


def _inside(corners: NDArray[np.int64], side: int, size: int) -> NDArray[np.bool_]:
    """Return which of the `side` pixels from each corner on lie in 0 .. size - 1, (n, side)."""
    pixels = corners[:, None] + np.arange(side)
    return (pixels >= 0) & (pixels < size)
