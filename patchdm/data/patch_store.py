"""The patch store: images as raw pixels on disk, of which any window is read alone.

A store is a folder with `index.parquet` and the shards `images-00000.npy`, `images-00001.npy`,
.. of uint8 (n, H, W, 3), all full but the last. Shards are memory-mapped, so reading a window
touches the pages it lies on and decodes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from patchdm.data.images import Pixels
from patchdm.errors import PatchDMError
from patchdm.grid import PatchGrid

SHARD_BYTES = 2**30
"""Bounds the pixels of one shard. Every open shard holds a file descriptor."""


class PatchStore:
    """Random access to the images of a store; image `i` is row `i` of `index`.

    Attributes:
        index: one row an image: `image` (row number), `source` (file name of the photograph),
            `flipped` (bool), `split` ("train" or "test", training images first), `mean_red`,
            `mean_green`, `mean_blue` (0 to 255), `sha256` (of the pixels).
        height, width: size of every image.

    Raises:
        PatchDMError: the folder holds no store, or a damaged one.
    """

    def __init__(self, folder: Path) -> None:
        paths = sorted(folder.glob("images-*.npy"))
        try:
            self.index = pd.read_parquet(folder / "index.parquet")
            # Plain views: memmap's own indexing costs more than copying a window.
            self._shards = [np.asarray(np.load(path, mmap_mode="r")) for path in paths]
        except (OSError, ValueError) as error:
            raise PatchDMError(f"{folder}: no readable patch store: {error}") from None
        found = sum(len(shard) for shard in self._shards)
        if not found or found != len(self.index):
            raise PatchDMError(
                f"{folder}: found {found} images in {len(paths)} shards, "
                f"index.parquet lists {len(self.index)}"
            )
        self._per_shard, self.height, self.width, _ = self._shards[0].shape

    def __len__(self) -> int:
        return len(self.index)

    def rows(self, split: str) -> NDArray[np.int64]:
        """Return the row numbers of the images of a split, ascending."""
        return np.flatnonzero(self.index["split"] == split)

    def images(self, indices: ArrayLike) -> Pixels:
        """Return whole images as uint8 (n, H, W, 3)."""
        indices = self._checked(indices)
        images = np.empty((len(indices), self.height, self.width, 3), np.uint8)
        for out, index in zip(images, indices.tolist(), strict=True):
            out[:] = self._image(index)
        return images

    def windows(
        self, indices: ArrayLike, rows: ArrayLike, cols: ArrayLike, patch_size: int
    ) -> tuple[Pixels, NDArray[np.bool_]]:
        """Read one training window an index: the 2 x 2 padded patches from (row, col) on.

        The window is the square of side 2p whose corner lies at (row * p - p/2, col * p - p/2).
        The padding is zero in x_t, not in the pixels, so a mask says where the image is.

        Args:
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
        grid = PatchGrid.of(self.height, self.width, patch_size)
        if patch_size % 2:
            raise ValueError(f"patch size is {patch_size}, allowed are even sizes")
        indices = self._checked(indices)
        tops = _corners(rows, grid.rows, patch_size)
        lefts = _corners(cols, grid.cols, patch_size)
        side = 2 * patch_size
        windows = np.zeros((len(indices), side, side, 3), np.uint8)
        places = zip(windows, indices.tolist(), tops.tolist(), lefts.tolist(), strict=True)
        for out, index, top, left in places:
            y, x = max(top, 0), max(left, 0)
            inside = self._image(index)[y : top + side, x : left + side]
            out[y - top :, x - left :][: inside.shape[0], : inside.shape[1]] = inside
        inside_y = _inside(tops, side, self.height)
        inside_x = _inside(lefts, side, self.width)
        return windows, inside_y[:, :, None] & inside_x[:, None, :]

    def _image(self, index: int) -> Pixels:
        """Return a view of one image; nothing is read yet."""
        shard, place = divmod(index, self._per_shard)
        return self._shards[shard][place]

    def _checked(self, indices: ArrayLike) -> NDArray[np.int64]:
        return _in_range(indices, len(self), "image")


def write_store(
    folder: Path,
    plan: pd.DataFrame,
    images: Iterable[Pixels],
    *,
    height: int,
    width: int,
    report: Callable[[int], None],
) -> None:
    """Write a store into a new folder, one image in memory at a time.

    Args:
        folder: where to; created.
        plan: one row an image, see `patchdm.data.splits.plan_images`.
        images: the images of these rows in this order, uint8 (H, W, 3).
        height, width: size of every image.
        report: called with the number of images written so far.
    """
    folder.mkdir()
    per_shard = max(1, SHARD_BYTES // (height * width * 3))
    means, hashes = np.empty((len(plan), 3)), []
    source = iter(images)
    for start in range(0, len(plan), per_shard):
        count = min(per_shard, len(plan) - start)
        # Not a writable memory map: on a full disk that ends in SIGBUS instead of an error.
        with _shard_path(folder, start // per_shard).open("wb") as file:
            _write_header(file, (count, height, width, 3))
            for row in range(start, start + count):
                pixels = np.ascontiguousarray(next(source))
                file.write(pixels.data)
                means[row] = pixels.mean(axis=(0, 1))
                hashes.append(hashlib.sha256(pixels.data).hexdigest())
                report(row + 1)
    colours = {f"mean_{name}": means[:, k] for k, name in enumerate(("red", "green", "blue"))}
    plan.assign(**colours, sha256=hashes).to_parquet(folder / "index.parquet", index=False)


def _shard_path(folder: Path, number: int) -> Path:
    return folder / f"images-{number:05d}.npy"


def _write_header(file: IO[bytes], shape: tuple[int, ...]) -> None:
    description = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, description)


def _corners(positions: ArrayLike, count: int, patch_size: int) -> NDArray[np.int64]:
    """Return the first pixel of windows at grid positions, negative in the padding."""
    return _in_range(positions, count, "window position") * patch_size - patch_size // 2


def _inside(corners: NDArray[np.int64], side: int, size: int) -> NDArray[np.bool_]:
    """Return which of the `side` pixels from each corner on lie in 0 .. size - 1, (n, side)."""
    pixels = corners[:, None] + np.arange(side)
    return (pixels >= 0) & (pixels < size)


def _in_range(values: ArrayLike, count: int, name: str) -> NDArray[np.int64]:
    array = np.asarray(values, np.int64)
    if array.size and (array.min() < 0 or array.max() >= count):
        raise IndexError(
            f"found {name} {array.min()} to {array.max()}, allowed are 0 to {count - 1}"
        )
    return array
