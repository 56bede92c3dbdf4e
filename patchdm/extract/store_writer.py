"""Write a patch store, so that the next run can continue after a kill at any moment."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from patchdm.extract.duplicates import SIDE
from patchdm.formats.images import Pixels
from patchdm.formats.patch_store import INDEX

SHARD_BYTES = 2**32
"""Bounds the pixels of one shard. A store keeps one file descriptor open per shard."""
INDEX_ROWS = 2**16
"""Rows of the index that are in memory as text at once."""

MEANS = ["mean_red", "mean_green", "mean_blue"]
RECORD = np.dtype(
    [
        ("row", "<i8"),
        ("kept", "?"),
        ("mean", "<f8", 3),
        ("sha256", "u1", 32),
        ("perceptual_hash", "<u8"),
        ("original_width", "<u4"),
        ("original_height", "<u4"),
        ("left", "<f8"),
        ("top", "<f8"),
        ("right", "<f8"),
        ("bottom", "<f8"),
        ("flipped", "?"),
        ("thumbnail", "<u2", (SIDE, SIDE)),
    ]
)
"""What is known of a finished row of the layout; zeros if its photograph is damaged.

Only images of whole photographs have the thumbnail of `patchdm.extract.duplicates`.
"""
FACTS = ["perceptual_hash", "original_width", "original_height"]
FACTS += ["left", "top", "right", "bottom", "flipped"]
"""Fields that the index has unchanged."""

Records = NDArray[np.void]


def without_thumbnails(records: Records, chosen: NDArray[np.bool_]) -> Records:
    """Return the chosen RECORDs without thumbnails: less than half of their bytes."""
    names = [name for name in RECORD.names or () if name != "thumbnail"]
    needed = np.empty(int(chosen.sum()), [(name, RECORD[name]) for name in names])
    for name in names:
        needed[name] = records[name][chosen]
    return needed


class ShardWriter:
    """Appends images to the shards of a store.

    Full shards are final; the header of the last one is right after `finish`.

    Args:
        count: images that are there already; what a killed writer left behind them is removed.
    """

    def __init__(self, folder: Path, height: int, width: int, count: int = 0) -> None:
        self._folder, self._shape, self._count = folder, (height, width, 3), count
        self._per_shard = max(1, SHARD_BYTES // (height * width * 3))
        self._file: io.FileIO | None = None
        for path in sorted(folder.glob("images-*.npy"))[-(-count // self._per_shard) :]:
            path.unlink()

    def append(self, pixels: Pixels) -> None:
        """Write further images, uint8 (n, H, W, 3)."""
        while len(pixels):
            number, place = divmod(self._count, self._per_shard)
            file = self._file = self._file or self._opened(number, place)
            fitting = pixels[: self._per_shard - place]
            _write(file, np.ascontiguousarray(fitting).data.cast("B"))
            self._count, pixels = self._count + len(fitting), pixels[len(fitting) :]
            if self._count % self._per_shard == 0:
                self.close()

    def replace(self, place: int, image: Pixels) -> None:
        """Write an image, uint8 (1, H, W, 3), over an existing one."""
        number, place = divmod(place, self._per_shard)
        with _shard_path(self._folder, number).open("r+b", buffering=0) as file:
            file.seek(self._offset(place))
            _write(file, image.data.cast("B"))

    def finish(self) -> None:
        """Write the number of images into the last shard, and cut off what is behind them."""
        self.close()
        number, place = divmod(self._count, self._per_shard)
        if place:
            with self._opened(number, place) as file:
                file.seek(0)
                _write(file, memoryview(shard_header((place, *self._shape))))

    def close(self) -> None:
        """Close the current shard."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _opened(self, number: int, place: int) -> io.FileIO:
        """Open a shard that holds `place` images to append more."""
        path = _shard_path(self._folder, number)
        # Not a writable memory map: on a full disk that ends in SIGBUS instead of an error.
        file = path.open("r+b" if place else "wb", buffering=0)
        _write(file, memoryview(shard_header((self._per_shard, *self._shape))))
        file.truncate(self._offset(place))
        file.seek(0, os.SEEK_END)
        return file

    def _offset(self, place: int) -> int:
        """Return the byte in its shard at which an image begins."""
        return len(shard_header((1, *self._shape))) + place * int(np.prod(self._shape))


def shard_header(shape: tuple[int, ...]) -> bytes:
    """Return the header of a shard (n, H, W, 3); its length does not depend on n."""
    description = {"descr": "|u1", "fortran_order": False, "shape": shape}
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, description)
    return head.getvalue()


def describe(pixels: Pixels) -> tuple[list[float], NDArray[np.uint8]]:
    """Return an image's mean red, green and blue, 0 to 255, and the 32 bytes of its SHA-256."""
    red, green, blue, _ = cv2.sumElems(pixels)  # of integers, so exact
    count = pixels.shape[0] * pixels.shape[1]
    digest = hashlib.sha256(pixels.data).digest()
    return [red / count, green / count, blue / count], np.frombuffer(digest, np.uint8)


def write_index(folder: Path, layout: pd.DataFrame, records: Records) -> None:
    """Write the index of a store, some rows in memory at a time, with a checksum per page.

    Args:
        records: RECORD of the images in the store.
    """
    writer: pq.ParquetWriter | None = None
    for start in range(0, len(records), INDEX_ROWS):
        part = records[start : start + INDEX_ROWS]
        columns = {name: part["mean"][:, k] for k, name in enumerate(MEANS)}
        columns |= {name: part[name] for name in FACTS}
        rows = layout.iloc[part["row"]].assign(
            image=np.arange(start, start + len(part)),
            **columns,
            sha256=[digest.tobytes().hex() for digest in part["sha256"]],
        )
        table = pa.Table.from_pandas(rows, preserve_index=False)
        writer = writer or pq.ParquetWriter(folder / INDEX, table.schema, write_page_checksum=True)
        writer.write_table(table)
    if writer:
        writer.close()


def _write(file: io.FileIO, content: memoryview) -> None:
    """Write all of the content; a single call may write only a part."""
    while content:
        content = content[file.write(content) :]


def _shard_path(folder: Path, number: int) -> Path:
    return folder / f"images-{number:05d}.npy"
