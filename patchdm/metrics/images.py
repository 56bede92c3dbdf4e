"""Images as metrics take them: of samples or of the patch store, in batches, counted."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from patchdm.errors import PatchDMError
from patchdm.formats.images import Pixels
from patchdm.formats.patch_store import PatchStore
from patchdm.formats.shards import read_images

Keyed = tuple[int, Pixels]
"""Seed of a sample or row of a photograph, and its image (H, W, 3) uint8."""
Batches = Iterator[tuple[NDArray[np.int64], Pixels]]
"""Keys (n,) and images (n, H, W, 3) uint8."""


def samples_of(folder: Path, store: PatchStore, seeds: NDArray[np.int64]) -> Iterator[Keyed]:
    """Yield seeds and their samples, which have the size of the store's images.

    Raises:
        PatchDMError: a sample is missing, damaged or of another size.
    """
    for seed, image in read_images(folder, seeds.tolist()):
        if image.shape[:2] != (store.height, store.width):
            raise PatchDMError(
                f"{folder}: found {image.shape[1]} x {image.shape[0]} pixels of seed {seed}, "
                f"expected {store.width} x {store.height} as in {store.folder}"
            )
        yield seed, image


def photographs_of(store: PatchStore, rows: NDArray[np.int64]) -> Iterator[Keyed]:
    """Yield rows and their images."""
    return ((row, store.images([row])[0]) for row in rows.tolist())


def batched(images: Iterable[Keyed], size: int) -> Batches:
    """Yield keys and images together, `size` at a time."""
    images = iter(images)
    while batch := list(itertools.islice(images, size)):
        keys, pixels = zip(*batch, strict=True)
        yield np.array(keys), np.stack(pixels)


def counted(
    images: Iterable[Keyed], show: Callable[[int], None], before: int = 0
) -> Iterator[Keyed]:
    """Yield images; say after each how many are finished, counted on from `before`."""
    for number, image in enumerate(images, before + 1):
        yield image
        show(number)
