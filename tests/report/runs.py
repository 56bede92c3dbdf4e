"""What a finished tiny run leaves for the report, from real photographs; an ablation if asked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from patchdm.config import Params
from patchdm.files import sha256
from patchdm.formats.images import Pixels, contact_sheet, save_png
from patchdm.formats.patch_store import PatchStore
from patchdm.metrics.blur import blur8
from patchdm.models.build import build_code, build_latent, build_unet
from stages._common import (
    ABLATION_METRICS,
    ABLATIONS,
    APPLICATION_TABLES,
    APPLICATIONS,
    LATENT,
    LATENT_CURVES,
    METRICS,
    PATCHDM,
    PATCHDM_CURVES,
    PATCHES,
    SAMPLES,
    TABLES,
)
from stages._training import live_curves
from stages.tables import RESOLUTIONS, tables
from tests.conftest import REPO
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
    "kid_unseen_samples": 0.07,
    "kid_unseen_real": 0.002,
    "seam_samples": 1.2,
    "seam_real": 1.0,
    "seam_padded_samples": 1.04,
    "seam_padded_real": 0.98,
    "seam_worst_samples": 1.3,
    "seam_worst_test": 1.02,
    "seam_mean_samples": 1.15,
    "n_samples": SAMPLE_COUNT,
    "n_train": 18,
    "n_test": 3,
    "extractor": "efficientnet-lite0",
    "extractor_weights_hash": "e" * 64,
    "resizer": "bilinear 224x224, antialiased",
    "kid_subset_size": 5,
    "n_block": SAMPLE_COUNT,
    "nearest": {
        "features": {
            "nearer_than_held_out": 0.625,
            "median_samples": 9.5,
            "median_held_out": 11.25,
        },
        "pixels": {"nearer_than_held_out": 0.9, "median_samples": 7, "median_held_out": 8},
    },
    "unet_weights_hash": "d" * 64,
    "data_hash": "f" * 64,
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
NEAREST = """\
seed,train_row,distance,pixel_train_row,pixel_distance
40,0,9.5,1,70.0
41,1,8.25,1,60.4
42,2,9.75,3,90.0
43,3,1.5,4,80.0
44,4,9.0,4,80.0
45,5,9.0,4,80.0
46,6,9.0,4,80.0
"""
APPLICATION_SCORES = """\
task,method,n,masked PSNR,EffNetLite0 distance,KID-EffNetLite0,mask seam,spread
inpainting,Patch-DM,3,15.83,8.946,0.011,1.14,12.5
inpainting,OpenCV Telea,3,15.878,11.573,0.05,0.671,
inpainting,photographs,3,,,-0.002,1.102,
outpainting,Patch-DM,3,14.352,9.722,0.021,0.972,14.75
outpainting,OpenCV Telea,3,16.904,10.657,0.06,1.945,
outpainting,photographs,3,,,-0.002,1.107,
"""
LARGE_SCORES = """\
set,width,height,n,seam,repetition
photographs,32,16,3,0.989,0.125
training-size,32,16,3,0.943,0.1
extrapolated,64,32,3,1.026,0.25
rescaled,64,32,3,1.004,0.5
"""


HEALTH = {"mean_error": 0.25, "std_ratio": 0.75, "nearest": 0.625, "nearest_training": 0.875}


def write_run(folder: Path, landscapes: Path, params: Params) -> None:
    """Write every input of the stage report below the working folder, which is empty.

    The samples are training images, blurred 8 times.
    """
    write_tiny_store(folder / PATCHES, landscapes)
    for name, lines in {"duplicates": 3, "quarantine": 1, "enlarged": 2}.items():
        (folder / PATCHES / f"{name}.csv").write_text("source\n" + "a.jpg\n" * lines)
    store = PatchStore(folder / PATCHES)
    samples = blur8(store.images(range(SAMPLE_COUNT)))
    _write_samples(folder / SAMPLES, samples)
    build_unet(params.model).save_pretrained(folder / PATCHDM / "unet")
    build_code(params.model, 18).save_pretrained(folder / PATCHDM / "code_table")
    build_latent(params.latent, params.model.code_dim).save_pretrained(folder / LATENT / "latent")
    losses = {"loss": 2.0, "loss_shifted": 1.0, "loss_plain": 1.0, "loss_q1": 4.0, "loss_q4": 1.0}
    _write_curves(folder / PATCHDM_CURVES, losses | {"grad_norm": 3.0, "learning_rate": 1e-3})
    _write_curves(folder / LATENT_CURVES, {"loss": 2.0, "grad_norm": 3.0, "learning_rate": 1e-3})
    (folder / LATENT_CURVES / "health.json").write_text(json.dumps(HEALTH))
    for seen in (128, 256):
        save_png(folder / PATCHDM_CURVES / f"sheets/{seen:09d}.png", contact_sheet(samples[:4], 4))
    (folder / METRICS).write_text(json.dumps(METRICS_VALUES))
    (folder / TABLES).mkdir()
    (folder / TABLES / "metrics.csv").write_text(TABLE)
    (folder / TABLES / "nearest.csv").write_text(NEAREST)
    _write_applications(folder, store)
    for variant in params.ablation.variants:
        for seed in params.ablation.seeds:
            _write_cell(folder, f"{variant}-{seed}", 30.0 + seed, samples)
    (folder / RESOLUTIONS).parent.mkdir(parents=True)
    shutil.copy(REPO / RESOLUTIONS, folder / RESOLUTIONS)
    tables(params)


def _write_samples(folder: Path, samples: Pixels) -> None:
    rows = []
    shard = f"{FIRST_SEED:06d}"
    for seed, sample in enumerate(samples, FIRST_SEED):
        path = folder / shard / f"{seed:06d}.png"
        save_png(path, sample)
        rows.append({"seed": seed, "shard": shard, "file": path.name, "sha256": sha256(path)})
    pd.DataFrame(rows).to_parquet(folder / "manifest.parquet")


def _write_cell(folder: Path, cell: str, fid: float, samples: Pixels) -> None:
    _write_samples(folder / ABLATIONS / cell / "samples", samples)
    path = folder / ABLATION_METRICS / f"{cell}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(METRICS_VALUES | {"fid_samples": fid}))


def _write_applications(folder: Path, store: PatchStore) -> None:
    images = store.images(range(3))
    pictures = {"training-size": images, "extrapolated": images.repeat(2, 1).repeat(2, 2)}
    pictures["rescaled"] = pictures["extrapolated"]
    for task in ("inpainting", "outpainting"):
        pictures[task] = np.stack([contact_sheet(image[None].repeat(4, 0), 4) for image in images])
        pictures[f"{task}-seeds"] = pictures[task]
    for name, each in pictures.items():
        for number, image in enumerate(each):
            save_png(folder / APPLICATIONS / name / f"{number:06d}.png", image)
    (folder / APPLICATION_TABLES).mkdir()
    (folder / APPLICATION_TABLES / "applications.csv").write_text(APPLICATION_SCORES)
    (folder / APPLICATION_TABLES / "large.csv").write_text(LARGE_SCORES)


def _write_curves(folder: Path, start: dict[str, float]) -> None:
    with live_curves(folder) as add:
        for step in range(1, 5):
            add(step * 64, {curve: value / step for curve, value in start.items()})
