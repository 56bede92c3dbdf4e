"""Samples against the training images: block by block, next to held-out and blurred images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from patchdm.metrics.compare import MEASURES, columns, compare, rounded, unseen_kid
from patchdm.metrics.images import Samples, batched, counted
from patchdm.metrics.judge import Judge
from patchdm.metrics.neighbours import nearer_share, nearest
from patchdm.metrics.reference import Reference
from patchdm.metrics.statistics import Statistics, collect


@dataclass(frozen=True)
class Measured:
    """What was found.

    `neighbours` has the `seed` of each kept sample, and row and distance of its nearest training
    image by features and by the pixels of thumbnails (`pixel_..`). `sets` has the training images,
    the samples (mean of the blocks), the blurred and the held-out images.
    """

    blocks: pd.DataFrame  # `first_seed`, `n` and the metrics of each
    neighbours: pd.DataFrame
    sets: pd.DataFrame  # `n` and the metrics of each
    memorisation: dict[str, dict[str, float]]  # by kind: samples next to held-out images

    def numbers(self) -> dict[str, Any]:
        """Return what metrics.json has of it; what was not measured is left out.

        METRIC_SET for each metric and set, the training images being `real`; the least of the
        blocks; the memorisation; how many images there are.
        """
        scores = {
            f"{metric}_{'real' if name == 'train' else name}": value
            for name, row in self.sets.iterrows()
            for metric, value in _numbers(row).items()
        }
        images = self.sets["n"].to_dict()
        return scores | {
            "samples_min": _numbers(self.blocks.min()),
            "nearest": self.memorisation,
            "n_samples": int(self.blocks["n"].sum()),
            "n_block": int(self.blocks["n"].iloc[0]),
            "n_train": int(images["train"]),
            "n_test": int(images["test"]),
        }

    def write(self, folder: Path, label: str) -> None:
        """Write metrics.csv, blocks.csv and nearest.csv, metrics named after the `label`."""
        folder.mkdir()
        titles = columns(label)
        self.sets.rename(columns=titles).to_csv(folder / "metrics.csv", index_label="set")
        self.blocks.rename(columns=titles).to_csv(folder / "blocks.csv", index=False)
        self.neighbours.round(4).to_csv(folder / "nearest.csv", index=False)


def measure(
    samples: Samples,
    seeds: NDArray[np.int64],
    judge: Judge,
    reference: Reference,
    show: Callable[[int], None],
) -> Measured:
    """Measure samples in `judge.config.blocks` equal blocks of seeds, each by itself.

    Args:
        samples, seeds: where they are, and which, (n,), consecutive.
        judge, reference: what measures, and what it measured of the real images.
        show: called with the number of samples that are measured.
    """
    found, neighbours, real = [], [], reference.real
    train = samples.store.rows("train")[real.kept]
    for block in np.split(seeds, judge.config.blocks):
        images = counted(samples.each(block), show, block[0] - seeds[0])
        of_block = collect(batched(images, judge.config.batch_size), len(block), judge)
        scores = compare(of_block, real, reference.radii, judge)
        scores |= unseen_kid(of_block, reference.unseen, judge)
        found.append({"first_seed": block[0], **scores})
        neighbours.append(_nearest(block[of_block.kept], of_block, real, train))
    blocks, nearby = pd.DataFrame(found), pd.concat(neighbours)
    means = rounded({measure: float(blocks[measure].mean()) for measure in MEASURES})
    mean = pd.DataFrame({"n": blocks["n"].iloc[0], **means}, index=["samples"])
    sets = pd.concat([reference.sets[:1], mean, reference.sets[1:]])
    return Measured(blocks, nearby, sets, _memorisation(nearby, reference))


def _nearest(
    seeds: NDArray[np.int64], samples: Statistics, real: Statistics, rows: NDArray[np.int64]
) -> pd.DataFrame:
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


def _memorisation(neighbours: pd.DataFrame, reference: Reference) -> dict[str, dict[str, float]]:
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


def _numbers(row: pd.Series) -> dict[str, float]:
    """Return the metrics of a row that were measured."""
    return {str(key): float(value) for key, value in row[list(MEASURES)].dropna().items()}
