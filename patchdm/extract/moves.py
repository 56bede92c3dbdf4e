"""Change the places of images in a store, so that a kill at any moment is harmless.

    moves/images.bin    the pixels of every image that changes its place or is new
    moves/records.bin   their records

The folder appears once it is complete. From then on the store follows from itself and the folder,
however often this is repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from patchdm.extract.splits import Indices
from patchdm.extract.store_writer import Records, ShardWriter
from patchdm.files import replacing
from patchdm.formats.images import Pixels
from patchdm.formats.patch_store import PatchStore


def write_moves(
    folder: Path,
    store: PatchStore,
    records: Records,
    old: Indices,
    make: Callable[[int], tuple[Pixels, Records]],
) -> None:
    """Write the folder of the images that change their places.

    Args:
        old: (n,), present place of each image of the new store; -1: none.
        make: returns the pixels and the record of a new image, by its new place.
    """
    with replacing(folder) as fresh:
        fresh.mkdir()
        with (fresh / "images.bin").open("wb") as images, (fresh / "records.bin").open("wb") as log:
            for place in _moved(old):
                if old[place] >= 0:
                    image, record = store.images([old[place]]), records[old[place]]
                else:
                    image, record = make(place)
                images.write(image.tobytes())
                log.write(record.tobytes())


def apply_moves(
    folder: Path, store: Path, records: Records, old: Indices, height: int, width: int
) -> Records:
    """Change a store as prepared by `write_moves`; return the records of its images.

    Args:
        store: folder of the store; its last shard may hold anything behind the images kept.
        old: see `write_moves`.
    """
    moved = _moved(old)
    settled = records[np.maximum(old, 0)]
    settled[moved] = np.fromfile(folder / "records.bin", records.dtype)
    settled["row"] = np.arange(len(old))
    common = min(len(records), len(old))
    writer = ShardWriter(store, height, width, common)
    with (folder / "images.bin").open("rb") as images:
        for place in moved:
            image = np.fromfile(images, np.uint8, height * width * 3)
            image = image.reshape(1, height, width, 3)
            if place < common:
                writer.replace(place, image)
            else:
                writer.append(image)
    writer.finish()
    return settled


def _moved(old: Indices) -> list[int]:
    return np.flatnonzero(old != np.arange(len(old))).tolist()
