"""Images as metrics take them: samples or photographs of the patch store, in batches, counted."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from patchdm.errors import PatchDMError
from patchdm.formats.images import Pixels
from patchdm.formats.patch_store import PatchStore
from patchdm.formats.shards import read_images, read_manifest

Keyed = tuple[int, Pixels]
"""Seed of a sample or row of a photograph, and its image (H, W, 3) uint8."""
Batches = Iterator[tuple[NDArray[np.int64], Pixels]]
"""Keys (n,) and images (n, H, W, 3) uint8."""


@dataclass(frozen=True)
class Samples:
    """Samples in a folder, of the size of a patch store's images."""

    folder: Path
    store: PatchStore

    @functools.cached_property
    def seeds(self) -> NDArray[np.int64]:
        """Of all samples, (n,)."""
        return read_manifest(self.folder)["seed"].to_numpy()

    def each(self, seeds: NDArray[np.int64]) -> Iterator[Keyed]:
        """Yield seeds and their images.

        Raises:
            PatchDMError: a sample is missing, damaged or of another size.
        """
        store = self.store
        for seed, image in read_images(self.folder, seeds.tolist()):
            if image.shape[:2] != (store.height, store.width):
                raise PatchDMError(
                    f"{self.folder}: found {image.shape[1]} x {image.shape[0]} pixels of seed "
                    f"{seed}, expected {store.width} x {store.height} as in {store.folder}"
                )
            yield seed, image

    def images(self, seeds: NDArray[np.int64]) -> Pixels:
        """Return the images of some seeds, (n, H, W, 3) uint8."""
        return np.stack([image for _, image in self.each(seeds)])


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
