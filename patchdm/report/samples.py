"""What sections show of a run: its samples, and the photographs of its patch store."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from patchdm.formats.images import Pixels
from patchdm.formats.patch_store import PatchStore
from patchdm.formats.shards import read_manifest
from patchdm.metrics.images import Keyed, samples_of


@dataclass(frozen=True)
class Samples:
    """Samples in a folder, of the size of a patch store's images."""

    folder: Path
    store: PatchStore

    @functools.cached_property
    def seeds(self) -> NDArray[np.int64]:
        """Of all samples, (n,)."""
        return read_manifest(self.folder)["seed"].to_numpy()

    def all(self) -> Iterator[Keyed]:
        """Yield seeds and images, one after the other."""
        return samples_of(self.folder, self.store, self.seeds)

    def of(self, seeds: NDArray[np.int64]) -> Pixels:
        """Return the images of some seeds, (n, H, W, 3) uint8."""
        return np.stack([image for _, image in samples_of(self.folder, self.store, seeds)])

    def first(self, most: int) -> Pixels:
        """Return at most so many images, (n, H, W, 3) uint8."""
        return self.of(self.seeds[:most])


def photographs(store: PatchStore, split: str, most: int) -> Pixels:
    """Return photographs at equal distances in their set, mirror images left out.

    Returns:
        (n, H, W, 3) uint8, n at most `most`.
    """
    rows = store.rows(split)
    rows = rows[~store.columns("flipped")["flipped"].to_numpy()[rows]]
    return store.images(
        rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int)]
    )
