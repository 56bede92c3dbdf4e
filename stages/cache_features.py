"""Cache backbone features, the start of the code table: data/patches/ -> data/features.parquet."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from patchdm.backbones.frozen import backbone_features, on_devices
from patchdm.backbones.load import load_backbone
from patchdm.config import Params
from patchdm.console import progress
from patchdm.devices import device_for
from patchdm.files import replacing
from patchdm.formats.patch_store import INDEX, PatchStore
from patchdm.formats.vectors import write_vectors
from stages._common import FEATURES, PATCHES, run_stage, state_dir
from stages._outputs import writing

PART_IMAGES = 4096
"""About so many images are one step that a killed run does not do again."""


def cache_features(params: Params) -> None:
    """Write a vector a training image, in the order of the store; none without a code table."""
    config = params.features
    store = PatchStore(PATCHES)
    images = store.rows("train")
    if params.model.code != "table":  # nothing starts from them
        with writing(FEATURES) as fresh:
            write_vectors(fresh, images[:0], np.empty((0, params.model.code_dim)), {})
        return
    weights = Path(config.weights) if config.weights else None
    device = device_for(deterministic=params.machine.deterministic)
    backbone = load_backbone(config.backbone, weights, "cpu")
    copies = on_devices(backbone, device)
    step = max(1, PART_IMAGES // config.batch_size) * config.batch_size
    with (
        state_dir("cache_features", params, [PATCHES / INDEX]) as state,
        progress("cache_features", len(images), "images") as show,
    ):
        parts = state / backbone.weights_hash
        parts.mkdir(exist_ok=True)
        files = []
        for start in range(0, len(images), step):
            files.append(parts / f"{start:09d}.npy")
            if not files[-1].exists():
                part = images[start : start + step]
                vectors = []
                for first in range(0, len(part), config.batch_size):
                    pixels = store.images(part[first : first + config.batch_size])
                    vectors.append(backbone_features(copies, pixels))
                    show(start + first + len(pixels))
                with replacing(files[-1]) as fresh, fresh.open("wb") as file:
                    np.save(file, np.concatenate(vectors))
            show(min(start + step, len(images)))
        metadata = {"backbone": backbone.name, "weights_hash": backbone.weights_hash}
        with writing(FEATURES) as fresh:
            write_vectors(fresh, images, np.concatenate([np.load(f) for f in files]), metadata)
        shutil.rmtree(parts)


if __name__ == "__main__":
    run_stage(cache_features)
