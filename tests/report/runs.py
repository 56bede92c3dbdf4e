"""What a finished tiny run leaves for the report, from real photographs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from patchdm.config import Params
from patchdm.data.images import contact_sheet, save_png
from patchdm.data.patch_store import PatchStore
from patchdm.files import sha256
from patchdm.metrics.seams import blur8
from patchdm.models.build import build_latent, build_unet
from stages._common import (
    LATENT,
    LATENT_CURVES,
    METRICS,
    PATCHDM,
    PATCHDM_CURVES,
    PATCHES,
    SAMPLES,
    TABLES,
    live_curves,
)
from tests.stages.tiny import write_tiny_store

FIRST_SEED, SAMPLE_COUNT = 40, 7
METRICS_VALUES: dict[str, Any] = {
    "fid_samples": 20.0,
    "fid_blurred": 50.0,
    "fid_test": 12.5,
    "kid_samples": 0.05,
    "kid_std_samples": 0.004,
    "kid_blurred": 0.3,
    "kid_test": 0.001,
    "seam_samples": 1.2,
    "seam_real": 1.0,
    "seam_padded_samples": 1.04,
    "seam_padded_real": 0.98,
    "n_samples": SAMPLE_COUNT,
    "n_train": 18,
    "n_test": 3,
    "extractor": "efficientnet-lite0",
    "extractor_weights_hash": "e" * 64,
    "resizer": "bilinear 224x224, antialiased",
    "kid_subset_size": 5,
    "params_hash": "a" * 64,
    "git_revision": "v0-1-gabcdef",
}
TABLE = """\
set,n,FID-EffNetLite0,KID-EffNetLite0,KID-EffNetLite0-std,Seam,Seam-padded
train,18,,,,1.0,0.98
samples,7,20.0,0.05,0.004,1.2,1.04
blurred,18,50.0,0.3,0.006,1.1,1.05
test,3,12.5,0.001,0.002,0.99,1.0
"""


def write_run(folder: Path, landscapes: Path, params: Params) -> None:
    """Write every input of the stage report below an empty folder.

    The samples are training images, blurred 8 times.
    """
    write_tiny_store(folder / PATCHES, landscapes)
    store = PatchStore(folder / PATCHES)
    samples = blur8(store.images(range(SAMPLE_COUNT)))
    rows = []
    shard = f"{FIRST_SEED:06d}"
    for seed, sample in enumerate(samples, FIRST_SEED):
        path = folder / SAMPLES / shard / f"{seed:06d}.png"
        save_png(path, sample)
        rows.append({"seed": seed, "shard": shard, "file": path.name, "sha256": sha256(path)})
    pd.DataFrame(rows).to_parquet(folder / SAMPLES / "manifest.parquet")
    build_unet(params.model).save_pretrained(folder / PATCHDM / "unet")
    build_latent(params.latent, params.model.code_dim).save_pretrained(folder / LATENT / "latent")
    losses = {"loss": 2.0, "loss_shifted": 1.0, "loss_plain": 1.0}
    _write_curves(folder / PATCHDM_CURVES, losses | {"grad_norm": 3.0, "learning_rate": 1e-3})
    _write_curves(folder / LATENT_CURVES, {"loss": 2.0, "grad_norm": 3.0, "learning_rate": 1e-3})
    for seen in (128, 256):
        save_png(folder / PATCHDM_CURVES / f"sheets/{seen:09d}.png", contact_sheet(samples[:4], 4))
    (folder / METRICS).write_text(json.dumps(METRICS_VALUES))
    (folder / TABLES).mkdir()
    (folder / TABLES / "metrics.csv").write_text(TABLE)


def _write_curves(folder: Path, start: dict[str, float]) -> None:
    with live_curves(folder) as add:
        for step in range(1, 5):
            add(step * 64, {curve: value / step for curve, value in start.items()})
