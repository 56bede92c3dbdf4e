"""The patch store: images as raw pixels on disk, from which any rows of pixels are read alone.

A store is a folder with `index.parquet` and the shards `images-00000.npy`, `images-00001.npy`,
.. of uint8 (n, H, W, 3), all full but the last. Reading a window reads its rows of pixels and
decodes nothing. Shards are read, not memory-mapped: mapped pages would count as memory of the
process until it holds the whole store, and a failing disk would end it with SIGBUS.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from patchdm.errors import PatchDMError
from patchdm.formats.images import Pixels

INDEX = "index.parquet"


class PatchStore:
    """Random access to the images of a store; image `i` is row `i` of `index`.

    It may be passed to other processes, forked or not: unpickling opens the folder again. It keeps
    a few bytes per image in memory.

    Attributes:
        folder: of the store.
        height, width: size of every image.

    Raises:
        PatchDMError: the folder holds no store, or a damaged one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        paths = sorted(folder.glob("images-*.npy"))
        try:
            self._splits = pq.read_table(
                folder / INDEX, columns=["split"], read_dictionary=["split"], memory_map=False
            )["split"]
            self._shards = [_Shard(path) for path in paths]
        except (OSError, ValueError, pa.ArrowException) as error:
            raise PatchDMError(f"{folder}: no readable patch store: {error}") from None
        found = sum(shard.shape[0] for shard in self._shards)
        sizes = {shard.shape[1:] for shard in self._shards}
        if not found or found != len(self._splits) or len(sizes) != 1:
            raise PatchDMError(
                f"{folder}: found {found} images in {len(paths)} shards, {INDEX} lists "
                f"{len(self._splits)}"
            )
        self._per_shard, self.height, self.width, _ = self._shards[0].shape

    def __len__(self) -> int:
        return len(self._splits)

    def __reduce__(self) -> tuple[type[PatchStore], tuple[Path]]:
        return PatchStore, (self.folder,)

    @functools.cached_property
    def index(self) -> pd.DataFrame:
        """One row per image, read at first use.

        `image` (row number), `source` (name of the photograph in data/raw), `view` (its number
        among the photograph's, 0: the whole), `split` ("train" or "test", training images first),
        `left`, `top`, `right`, `bottom` (what it shows, in pixels of the photograph), `flipped`
        (bool: mirrored), `mean_red`, `mean_green`, `mean_blue` (0 to 255), `sha256` (of the
        pixels), `perceptual_hash`. Of the photograph: `origin` (`source` of the manifest),
        `licence`, `original_sha256`, `original_bytes`, `original_width`, `original_height`.
        """
        return pd.read_parquet(self.folder / INDEX)

    def columns(self, *names: str) -> pd.DataFrame:
        """Return some columns of the index; all columns of millions of images are gigabytes."""
        return pd.read_parquet(self.folder / INDEX, columns=list(names))

    def shards(self) -> list[tuple[Path, tuple[int, ...]]]:
        """Return the file and the shape, (n, H, W, 3), of every shard."""
        return [(shard.path, shard.shape) for shard in self._shards]

    def shard_of(self, index: int) -> Path:
        """Return the file that holds an image."""
        return self._shards[index // self._per_shard].path

    def rows(self, split: str) -> NDArray[np.int64]:
        """Return the row numbers of the images of a split, ascending."""
        return np.flatnonzero(pc.equal(self._splits, split).to_numpy())

    def photographs(self, split: str) -> NDArray[np.int64]:
        """Return the row numbers of the whole photographs of a split, ascending."""
        rows = self.rows(split)
        return rows[self.columns("view")["view"].to_numpy()[rows] == 0]

    def images(self, indices: ArrayLike) -> Pixels:
        """Return whole images as uint8 (n, H, W, 3)."""
        indices = in_range(indices, len(self), "image")
        images = np.empty((len(indices), self.height, self.width, 3), np.uint8)
        for out, index in zip(images, indices.tolist(), strict=True):
            self.read(index, 0, out)
        return images

    def read(self, index: int, first_row: int, out: Pixels) -> None:
        """Fill `out`, uint8 (n, W, 3), with the pixel rows of an image from `first_row` on."""
        shard, place = divmod(index, self._per_shard)
        self._shards[shard].read((place * self.height + first_row) * self.width * 3, out)


class _Shard:
    """An open .npy file of uint8 (n, H, W, 3); a ValueError if it has another content."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb", buffering=0)
        if np.lib.format.read_magic(self._file) != (1, 0):
            raise ValueError(f"{path.name}: not of version 1.0")
        self.shape, fortran, dtype = np.lib.format.read_array_header_1_0(self._file)
        self._start = self._file.tell()
        size = os.fstat(self._file.fileno()).st_size
        expected = self._start + int(np.prod(self.shape))
        if fortran or dtype != np.uint8 or len(self.shape) != 4 or size != expected:
            raise ValueError(f"{path.name}: found {size} bytes for {dtype} {self.shape}")

    def read(self, offset: int, out: Pixels) -> None:
        """Fill a contiguous array with the bytes from an offset in the pixels; thread-safe."""
        view = out.data.cast("B")
        while view:
            count = os.preadv(self._file.fileno(), [view], self._start + offset)
            if not count:
                raise PatchDMError(f"{self.path}: cut short while it is read")
            view, offset = view[count:], offset + count


def in_range(values: ArrayLike, count: int, name: str) -> NDArray[np.int64]:
    """Return numbers as an array, if all are in 0 .. count - 1.

    Raises:
        IndexError: one is not; it says what they are, by `name`.
    """
    array = np.asarray(values, np.int64)
    if array.size and (array.min() < 0 or array.max() >= count):
        raise IndexError(f"found {name} {array.min()} to {array.max()}, expected 0 to {count - 1}")
    return array
