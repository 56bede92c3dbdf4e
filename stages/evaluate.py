"""Measure the samples: data/samples/ -> reports/metrics.json, reports/tables/.

Every block of seeds is compared with the training images, as data/reference/ holds them, apart
from the other blocks. Held-out and blurred images stand beside it as data/reference/ measured
them. Seams are looked for at the borders of the shifted patches, which tile the image, and of the
padded ones. The nearest training image of each sample shows whether the model copies.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from patchdm.config import Params
from patchdm.console import progress
from patchdm.devices import default_device
from patchdm.errors import PatchDMError
from patchdm.files import sha256
from patchdm.formats.patch_store import PatchStore
from patchdm.formats.shards import read_images, read_manifest
from patchdm.metrics.compare import MEASURES, columns, compare, rounded
from patchdm.metrics.extractors import Extractor, load_extractor
from patchdm.metrics.neighbours import nearer_share, nearest
from patchdm.metrics.reference import Reference, describe, read_reference
from patchdm.metrics.statistics import Statistics, collect
from stages._common import (
    METRICS,
    PATCHDM,
    PATCHES,
    REFERENCE,
    SAMPLES,
    TABLES,
    git_revision,
    locked,
    run_stage,
    writing,
)
from stages._declared import params_digest

UNET_WEIGHTS = PATCHDM / "unet" / "diffusion_pytorch_model.safetensors"


def evaluate(params: Params) -> None:
    """Write metrics.json, and the tables metrics.csv, blocks.csv and nearest.csv."""
    config = params.evaluate
    if not UNET_WEIGHTS.is_file():
        raise PatchDMError(f"{UNET_WEIGHTS}: not found, run the stage train_patchdm (`dvc repro`)")
    seeds, store = _seeds(params), PatchStore(PATCHES)
    extractor = load_extractor(
        config.extractor,
        Path(config.weights) if config.weights else None,
        default_device(),
    )
    about = describe(store, extractor, config, params.model.patch_size)
    reference = read_reference(REFERENCE, about)
    with locked("evaluate"):
        blocks, neighbours = _measure(params, seeds, store, extractor, reference)
        means = rounded({measure: float(blocks[measure].mean()) for measure in MEASURES})
        samples = pd.DataFrame({"n": blocks["n"].iloc[0], **means}, index=["samples"])
        sets = pd.concat([reference.sets[:1], samples, reference.sets[1:]])
        metrics = _scores(sets) | {
            "samples_min": _numbers(blocks[list(MEASURES)].min()),
            "nearest": _memorisation(neighbours, reference),
            **_provenance(params, blocks, reference),
            **about,
            "resizer": extractor.resizer,
        }
        with writing(METRICS) as fresh:
            fresh.write_text(json.dumps(metrics, indent=2) + "\n")
        titles = columns(extractor.label)
        with writing(TABLES) as fresh:
            fresh.mkdir()
            sets.rename(columns=titles).to_csv(fresh / "metrics.csv", index_label="set")
            blocks.rename(columns=titles).to_csv(fresh / "blocks.csv", index=False)
            neighbours.round(4).to_csv(fresh / "nearest.csv", index=False)


def _seeds(params: Params) -> np.ndarray:
    """Return the seeds to measure; all must have been sampled."""
    first, count = params.sample.first_seed, params.sample.num_images
    seeds = np.arange(first, first + count)
    found = np.isin(seeds, read_manifest(SAMPLES)["seed"]).sum()
    if found < count:
        raise PatchDMError(
            f"{SAMPLES}: found {found} of the {count} seeds from {first} on that "
            "sample.first_seed and sample.num_images ask for"
        )
    return seeds


def _measure(
    params: Params,
    seeds: np.ndarray,
    store: PatchStore,
    extractor: Extractor,
    reference: Reference,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return first_seed, n and metrics of each block, and the nearest images of each sample."""
    config, rows, neighbours = params.evaluate, [], []
    train = store.rows("train")[reference.real.kept]
    with progress("evaluate", len(seeds), "images") as advance_to:
        for block in np.split(seeds, config.blocks):
            samples = collect(
                _batches(block, config.batch_size, store, lambda s: advance_to(s - seeds[0] + 1)),
                len(block),
                extractor,
                crop_size=config.crop_size,
                crops_per_image=config.crops_per_image,
                seed=params.base.seed,
            )
            scores = compare(
                samples,
                reference.real,
                real_radii=reference.radii,
                nearest_k=config.nearest_k,
                kid_subset_size=config.kid_subset_size,
                seed=params.base.seed,
                patch_size=params.model.patch_size,
            )
            rows.append({"first_seed": block[0], **scores})
            neighbours.append(_nearest(block[samples.kept], samples, reference.real, train))
    return pd.DataFrame(rows), pd.concat(neighbours)


def _batches(
    seeds: np.ndarray, size: int, store: PatchStore, finished: Callable[[int], None]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield seeds and their images, checked; say which seed is finished."""
    samples = read_images(SAMPLES, seeds.tolist())
    while batch := list(itertools.islice(samples, size)):
        for seed, image in batch:
            if image.shape[:2] != (store.height, store.width):
                raise PatchDMError(
                    f"{SAMPLES}: found {image.shape[1]} x {image.shape[0]} pixels of seed {seed}, "
                    f"expected {store.width} x {store.height} as in {PATCHES}"
                )
        numbers, images = zip(*batch, strict=True)
        yield np.array(numbers), np.stack(images)
        finished(numbers[-1])


def _nearest(
    seeds: np.ndarray, samples: Statistics, real: Statistics, rows: np.ndarray
) -> pd.DataFrame:
    """Find the nearest training images by features and by the pixels of thumbnails."""
    by_features = nearest(samples.features, real.features)
    by_pixels = nearest(samples.thumbs, real.thumbs)
    return pd.DataFrame(
        {
            "seed": seeds,
            "train_row": rows[by_features.rows],
            "distance": by_features.distances,
            "pixel_train_row": rows[by_pixels.rows],
            "pixel_distance": by_pixels.distances,
        }
    )


def _memorisation(neighbours: pd.DataFrame, reference: Reference) -> dict[str, Any]:
    """Compare the samples' distances to training images with those of held-out photographs."""
    kinds = {
        "features": (neighbours["distance"], reference.held_out_features),
        "pixels": (neighbours["pixel_distance"], reference.held_out_pixels),
    }
    return {
        kind: {
            "nearer_than_held_out": round(nearer_share(samples.to_numpy(), held_out), 4),
            "median_samples": round(float(np.median(samples)), 4),
            "median_held_out": round(float(np.median(held_out)), 4),
        }
        for kind, (samples, held_out) in kinds.items()
    }


def _scores(sets: pd.DataFrame) -> dict[str, float]:
    """Return METRIC_SET for all that was measured; of the training images as `real`."""
    return {
        f"{metric}_{'real' if name == 'train' else name}": value
        for name, row in sets.iterrows()
        for metric, value in _numbers(row[list(MEASURES)]).items()
    }


def _numbers(row: pd.Series) -> dict[str, float]:
    """Return the cells of a row that are not empty; JSON has no NaN."""
    return {str(key): float(value) for key, value in row.dropna().items()}


def _provenance(params: Params, blocks: pd.DataFrame, reference: Reference) -> dict[str, Any]:
    return {
        "n_samples": params.sample.num_images,
        "n_block": int(blocks["n"].iloc[0]),
        "n_train": int(reference.sets.loc["train", "n"]),
        "n_test": int(reference.sets.loc["test", "n"]),
        "seeds": {"first": params.sample.first_seed, "count": params.sample.num_images},
        "kid_subset_size": params.evaluate.kid_subset_size,
        "unet_weights_hash": sha256(UNET_WEIGHTS),
        "params_hash": params_digest("evaluate", params),
        "git_revision": git_revision(),
    }


if __name__ == "__main__":
    run_stage(evaluate)
