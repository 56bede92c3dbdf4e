"""Speed of the evaluation; benchmarks.evaluation_at_scale has its memory.

Noise images of the demo's size, in memory, through the EffNetLite0 extractor and all metrics,
against a reference of as many.

    taskset -c 0,1 python -m benchmarks.evaluation --threads 2
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from benchmarks._common import interleaved, show
from benchmarks.training import PRESETS
from patchdm.config import load_params
from patchdm.metrics.compare import compare
from patchdm.metrics.extractors import Extractor, load_extractor
from patchdm.metrics.judge import Judge
from patchdm.metrics.manifolds import radii
from patchdm.metrics.neighbours import nearest
from patchdm.metrics.statistics import Statistics, collect

NEAREST_K, PATCH_SIZE, BATCH = 3, 16, 64
SPATIAL = 2023


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with threadpool_limits(args.threads):
        effnet = load_extractor("efficientnet-lite0", None, "cpu")
        rows = [_features(effnet), _thousand_samples(effnet)]
        show(f"Evaluation, {args.threads} threads", rows)


def _row(measure: str, value: float, needed: str) -> dict[str, object]:
    return {"measure": measure, "value": round(value, 2), "needed": needed}


def _features(extractor: Extractor) -> dict[str, object]:
    images = next(_noise(32, 224, 224, seed=0))[1]
    (seconds,) = interleaved({"": lambda: extractor.features(images)}, 10).values()
    return _row("EffNetLite0, 224 px: images/s", len(images) / float(np.median(seconds)), ">= 30")


def _thousand_samples(extractor: Extractor) -> dict[str, object]:
    real = _collected(_synthetic(1280), 1000, 32, 64, seed=0)
    real_radii = radii(real.features, NEAREST_K)
    start = time.perf_counter()
    _measured(_collected(extractor, 1000, 32, 64, seed=1), real, real_radii)
    return _row("EffNetLite0, 1,000 samples: seconds", time.perf_counter() - start, "< 90")


def _synthetic(dim: int) -> Extractor:
    """Return an extractor whose features are pixels, the first ones and the last ones."""

    def pixels(images: Tensor) -> tuple[Tensor, Tensor]:
        flat = images.flatten(1).float()
        return flat[:, :dim], flat[:, -SPATIAL:]

    return Extractor("pixels", "Pixels", "none", "0" * 64, {torch.device("cpu"): pixels})


def _collected(
    extractor: Extractor, count: int, height: int, width: int, *, seed: int
) -> Statistics:
    crops = {"crop_size": min(height, width), "crops_per_image": 1}
    return collect(_noise(count, height, width, seed=seed), count, _judge(extractor, **crops))


def _judge(extractor: Extractor, **changes: int) -> Judge:
    config = load_params(PRESETS / "demo.yaml").evaluate.model_copy(update=changes)
    return Judge(extractor, config, seed=0, patch_size=PATCH_SIZE)


def _measured(samples: Statistics, real: Statistics, real_radii: np.ndarray) -> None:
    """Do what the stage evaluate does with the statistics of a block."""
    subset_size = min(1000, len(samples.features))
    judge = _judge(_synthetic(1), nearest_k=NEAREST_K, kid_subset_size=subset_size)
    compare(samples, real, real_radii, judge)
    nearest(samples.features, real.features)
    nearest(samples.thumbs, real.thumbs)


def _noise(
    count: int, height: int, width: int, *, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield keys and noise images in batches."""
    draws = np.random.default_rng(seed)
    for start in range(0, count, BATCH):
        keys = np.arange(start, min(start + BATCH, count))
        yield keys, draws.integers(0, 256, (len(keys), height, width, 3), np.uint8)


if __name__ == "__main__":
    main()
