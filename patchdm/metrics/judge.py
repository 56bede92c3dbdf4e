"""All sets of images that are compared are measured by one judge: one extractor, one setting."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from patchdm.config import Evaluate
from patchdm.formats.images import Pixels
from patchdm.formats.patch_store import PatchStore
from patchdm.metrics.compare import compare
from patchdm.metrics.extractors import Extractor, load_extractor
from patchdm.metrics.statistics import Statistics, collect


@dataclass(frozen=True)
class Judge:
    """What measures.

    Attributes:
        extractor: of the features.
        config: section `evaluate` of params.yaml.
        seed: of crops and of KID's subsets.
        patch_size: distance of the borders where seams are looked for.
    """

    extractor: Extractor
    config: Evaluate
    seed: int
    patch_size: int

    def describe(self, store: PatchStore) -> dict[str, str | int]:
        """Return what statistics depend on; only equal ones are compared with each other."""
        index = store.columns("split", "sha256")
        lines = "".join(f"{split} {pixels}\n" for split, pixels in index.itertuples(index=False))
        return {
            "data_hash": hashlib.sha256(lines.encode()).hexdigest(),
            "extractor": self.extractor.name,
            "extractor_weights_hash": self.extractor.weights_hash,
            "crop_size": self.config.crop_size,
            "crops_per_image": self.config.crops_per_image,
            "nearest_k": self.config.nearest_k,
            "patch_size": self.patch_size,
        }

    def collect(self, batches: Iterable[tuple[np.ndarray, Pixels]], count: int) -> Statistics:
        """Return the statistics of `count` images: see `statistics.collect`."""
        return collect(
            batches,
            count,
            self.extractor,
            crop_size=self.config.crop_size,
            crops_per_image=self.config.crops_per_image,
            seed=self.seed,
        )

    def compare(self, images: Statistics, real: Statistics, radii: np.ndarray) -> dict[str, float]:
        """Return `n` and the metrics of a set against the real images: see `compare.compare`."""
        return compare(
            images,
            real,
            real_radii=radii,
            nearest_k=self.config.nearest_k,
            kid_subset_size=self.config.kid_subset_size,
            seed=self.seed,
            patch_size=self.patch_size,
        )


def load_judge(config: Evaluate, device: str, *, seed: int, patch_size: int) -> Judge:
    """Return the judge with the extractor that `config` names, on a device.

    Raises:
        PatchDMError: the extractor is unknown, or its weights cannot be had.
    """
    weights = Path(config.weights) if config.weights else None
    return Judge(load_extractor(config.extractor, weights, device), config, seed, patch_size)
