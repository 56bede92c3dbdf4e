"""What measures all sets of images that are compared: one extractor, one setting."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from patchdm.config import Evaluate
from patchdm.metrics.extractors import Extractor, load_extractor


@dataclass(frozen=True)
class Judge:
    """An extractor, and section `evaluate` of params.yaml.

    `seed` is that of crops and of KID's subsets, `patch_size` the distance of the borders where
    seams are looked for.
    """

    extractor: Extractor
    config: Evaluate
    seed: int
    patch_size: int


def load_judge(config: Evaluate, seed: int, patch_size: int, device: str) -> Judge:
    """Return the judge with the extractor that `config` names, on a device.

    Raises:
        PatchDMError: the extractor is unknown, or its weights are not available.
    """
    weights = Path(config.weights) if config.weights else None
    return Judge(load_extractor(config.extractor, weights, device), config, seed, patch_size)
