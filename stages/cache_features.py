"""Cache backbone features, the start of the code table: data/patches/ -> data/features.parquet."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from patchdm.config import Params
from patchdm.data.patch_store import PatchStore
from patchdm.data.vectors import write_vectors
from patchdm.models.backbones import load_backbone
from stages._common import FEATURES, PATCHES, progress, run_stage, state_dir


def cache_features(params: Params) -> None:
    """Write one feature vector per training image, in the order of the store."""
    config = params.features
    weights = Path(config.weights) if config.weights else None
    backbone = load_backbone(config.backbone, weights, "cpu")
    store = PatchStore(PATCHES)
    images = store.rows("train")
    vectors = np.empty((len(images), backbone.dim), np.float32)
    with (
        state_dir("cache_features", [], []),  # its lock: one writer at a time
        progress("features", len(images), "images") as advance_to,
    ):
        for start in range(0, len(images), config.batch_size):
            rows = slice(start, min(start + config.batch_size, len(images)))
            vectors[rows] = backbone.features(store.images(images[rows]))
            advance_to(rows.stop)
        metadata = {"backbone": backbone.name, "weights_hash": backbone.weights_hash}
        write_vectors(FEATURES, images, vectors, metadata)


if __name__ == "__main__":
    run_stage(cache_features)
