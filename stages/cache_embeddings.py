"""Stage cache_embeddings: the global code of every training image, from the EMA weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from patchdm.config import Params
from patchdm.console import progress
from patchdm.devices import device_for
from patchdm.formats.patch_store import PatchStore
from patchdm.formats.tensors import to_tensor
from patchdm.formats.vectors import write_vectors
from patchdm.models.semantic import CodeTable, SemanticEncoder
from stages._common import CODES, PATCHDM, PATCHES, RUN, Run, run_stage
from stages._outputs import writing

ENCODER_BATCH = 32


def cache_embeddings(params: Params, run: Run = RUN) -> None:
    """Write data/codes.parquet: one row per training image; no rows without a global code."""
    store = PatchStore(run / PATCHES)
    images = store.rows("train")
    match params.model.code:
        case "table":
            codes = CodeTable.from_pretrained(run / PATCHDM / "code_table").codes.detach().numpy()
        case "encoder":
            device = device_for(deterministic=params.machine.deterministic)
            codes = _encode(run / PATCHDM / "encoder", store, images, device)
        case "none":
            images, codes = images[:0], np.empty((0, params.model.code_dim), np.float32)
    with writing(run / CODES) as fresh:
        write_vectors(fresh, images, codes, {"code": params.model.code})


@torch.inference_mode()
def _encode(model: Path, store: PatchStore, images: np.ndarray, device: str) -> np.ndarray:
    encoder = SemanticEncoder.from_pretrained(model).eval().to(device)
    codes = []
    with progress("cache_embeddings", len(images), "images") as show:
        for start in range(0, len(images), ENCODER_BATCH):
            batch = images[start : start + ENCODER_BATCH]
            codes.append(encoder(to_tensor(store.images(batch)).to(device)).cpu().numpy())
            show(start + len(batch))
    return np.concatenate(codes)


if __name__ == "__main__":
    run_stage(cache_embeddings)
