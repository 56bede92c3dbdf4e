"""Measure the samples: data/samples/ -> reports/metrics.json, reports/tables/metrics.csv.

FID and KID compare every set with all training images, flips included. Three reference points are
measured in the same run: the held-out test images (what real images of that number reach), the
training images blurred 8 times, and the seams of real images. Seams are looked for at the borders
of the shifted patches, which tile the image, and of the padded ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from patchdm.config import Params, params_hash
from patchdm.data.images import read_image
from patchdm.data.patch_store import PatchStore
from patchdm.errors import PatchDMError
from patchdm.files import replacing, sha256
from patchdm.metrics.extractors import Extractor, load_extractor
from patchdm.metrics.fidelity import extract, fidelity
from patchdm.metrics.seams import blur8, seam_score
from stages._common import (
    METRICS,
    PATCHDM,
    PATCHES,
    SAMPLES,
    TABLES,
    git_revision,
    progress,
    run_stage,
    state_dir,
)

UNET_WEIGHTS = PATCHDM / "unet" / "diffusion_pytorch_model.safetensors"


@dataclass(frozen=True)
class ImageSet:
    """Images that are read batch by batch, each time they are asked for."""

    name: str
    indices: np.ndarray
    read: Callable[[np.ndarray], np.ndarray]
    batch_size: int

    def __iter__(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self.indices), self.batch_size):
            yield self.read(self.indices[start : start + self.batch_size])


def evaluate(params: Params) -> None:
    """Write reports/metrics.json and reports/tables/metrics.csv."""
    weights = Path(params.evaluate.weights) if params.evaluate.weights else None
    extractor = load_extractor(params.evaluate.extractor, weights, "cpu")
    if not UNET_WEIGHTS.is_file():
        raise PatchDMError(f"{UNET_WEIGHTS}: not found, run the stage train_patchdm (`dvc repro`)")
    with state_dir("evaluate", [], []):  # its lock: one writer at a time
        table = _measure(_image_sets(params), extractor, params)
        with replacing(METRICS) as fresh:
            fresh.write_text(json.dumps(_metrics(table, extractor, params), indent=2) + "\n")
        names = {column: f"{column.upper()}-{extractor.label}" for column in ("fid", "kid")}
        names["kid_std"] = f"KID-{extractor.label}-std"
        with replacing(TABLES / "metrics.csv") as fresh:
            table.rename(columns=names).to_csv(fresh, index_label="set")


def _image_sets(params: Params) -> list[ImageSet]:
    """Return train (the reference, first), samples, blurred and test."""
    store = PatchStore(PATCHES)
    train, test = store.rows("train"), store.rows("test")
    first = params.sample.first_seed
    seeds = np.arange(first, first + params.sample.num_images)
    sets = {
        "train": (train, store.images),
        "samples": (seeds, partial(_read_samples, height=store.height, width=store.width)),
        "blurred": (train, lambda indices: blur8(store.images(indices))),
        "test": (test, store.images),
    }
    for name, (indices, _) in sets.items():
        if len(indices) < 2:
            place = SAMPLES if name == "samples" else PATCHES
            raise PatchDMError(
                f"{place}: found {len(indices)} {name} images, allowed are 2 or more"
            )
    size = params.evaluate.batch_size
    return [ImageSet(name, indices, read, size) for name, (indices, read) in sets.items()]


def _read_samples(seeds: np.ndarray, *, height: int, width: int) -> np.ndarray:
    """Read the PNG of each seed as (n, height, width, 3) uint8."""
    images = []
    for seed in seeds:
        path = SAMPLES / f"{seed:06d}.png"
        if not path.is_file():
            raise PatchDMError(
                f"{path}: not found, sample.first_seed and sample.num_images ask for it"
            )
        image = read_image(path)
        if image.shape[:2] != (height, width):
            raise PatchDMError(
                f"{path}: found {image.shape[1]} x {image.shape[0]} pixels, allowed is "
                f"{width} x {height} as in {PATCHES}"
            )
        images.append(image)
    return np.stack(images)


def _measure(sets: list[ImageSet], extractor: Extractor, params: Params) -> pd.DataFrame:
    """Return n, fid, kid, kid_std and both seams of each set, indexed by its name.

    Values are rounded to what they mean: linear algebra differs further down between machines.
    """
    p = params.model.patch_size
    total, done = sum(len(images.indices) for images in sets), 0
    rows, reference = {}, None
    with progress("evaluate", total, "images") as advance_to:
        for images in sets:
            row: dict[str, float] = {"n": len(images.indices)}
            features = extract(images, extractor)
            if reference is None:
                reference = features
            else:
                row |= fidelity(
                    features,
                    reference,
                    kid_subset_size=params.evaluate.kid_subset_size,
                    kid_seed=params.base.seed,
                )
            row["seam"] = seam_score(images, p)
            row["seam_padded"] = seam_score(images, p, p // 2)
            rows[images.name] = row
            done += len(images.indices)
            advance_to(done)
    columns = ["n", "fid", "kid", "kid_std", "seam", "seam_padded"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    return table.round({"fid": 3, "kid": 5, "kid_std": 5, "seam": 4, "seam_padded": 4})


def _metrics(table: pd.DataFrame, extractor: Extractor, params: Params) -> dict[str, Any]:
    """Return what metrics.json holds: the measures, then where they come from."""
    measures = {
        f"{measure}_{name}": float(table.loc[name, measure])
        for measure in ("fid", "kid", "kid_std")
        for name in ("samples", "blurred", "test")
    }
    return measures | {
        "seam_samples": float(table.loc["samples", "seam"]),
        "seam_real": float(table.loc["train", "seam"]),
        "seam_test": float(table.loc["test", "seam"]),
        "seam_padded_samples": float(table.loc["samples", "seam_padded"]),
        "seam_padded_real": float(table.loc["train", "seam_padded"]),
        "n_samples": int(table.loc["samples", "n"]),
        "n_train": int(table.loc["train", "n"]),
        "n_test": int(table.loc["test", "n"]),
        "extractor": extractor.name,
        "extractor_weights_hash": extractor.weights_hash,
        "resizer": extractor.resizer,
        "kid_subset_size": params.evaluate.kid_subset_size,
        "seeds": {"first": params.sample.first_seed, "count": params.sample.num_images},
        "unet_weights_hash": sha256(UNET_WEIGHTS),
        "params_hash": params_hash(params),
        "git_revision": git_revision(),
    }


if __name__ == "__main__":
    run_stage(evaluate)
