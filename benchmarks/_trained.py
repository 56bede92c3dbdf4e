"""The model that a run of the stages trained, and how good and how fast its samples are."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks import straightforward
from benchmarks._weights import straightforward_like
from patchdm.config import load_params
from patchdm.formats.patch_store import PatchStore
from patchdm.formats.tensors import to_uint8
from patchdm.metrics.extractors import load_extractor
from patchdm.metrics.fidelity import fid, kid
from patchdm.metrics.moments import Moments
from patchdm.metrics.neighbours import nearer_share, nearest
from patchdm.metrics.seams import border_scores, score_of_maps, step_maps, worst
from patchdm.pipeline import PatchDMPipeline
from patchdm.sampling.codes import sample_codes
from patchdm.sampling.solve import generators
from patchdm.sampling.solvers import solver
from stages._common import LATENT, PARAMS, PATCHDM, PATCHES


class Setting(NamedTuple):
    """How to sample; the straightforward implementation knows ddim on shifted patches."""

    solver: str
    steps: int
    tiling: str
    straightforward: bool = False


def arguments(docstring: str) -> argparse.ArgumentParser:
    """Return the arguments of benchmarks of trained models."""
    parser = argparse.ArgumentParser(description=docstring.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--images", type=int, default=224, help="samples of each setting")
    parser.add_argument(
        "--runs", type=Path, nargs="+", default=[Path()], help="folders with params.yaml and data/"
    )
    return parser


class Trained:
    """A trained model and the features of its training images.

    Args:
        run: folder where params.yaml lies and the stages ran.
    """

    def __init__(self, run: Path) -> None:
        self.params = load_params(run / PARAMS)
        has_code = self.params.model.code != "none"
        self.pipe = PatchDMPipeline.from_stages(run / PATCHDM, run / LATENT if has_code else None)
        self.pipe.set_progress_bar_config(disable=True)
        self.scheduler = self.pipe.scheduler
        self.baseline = straightforward_like(self.pipe.unet)
        self.baseline.to(memory_format=torch.contiguous_format)
        config = self.params.evaluate
        weights = Path(config.weights) if config.weights else None
        self.extractor = load_extractor(config.extractor, weights, "cpu")
        self.store = PatchStore(run / PATCHES)
        real = self.store.images(self.store.rows("train"))
        self.real, self.real_steps = self.features(real), step_maps([real])

    def compare(self, settings: Sequence[Setting], count: int) -> list[dict[str, Any]]:
        """Return a row for each setting: quality of the same `count` seeds, and time.

        The settings take turns, batch by batch; seconds per image are the median over batches.
        """
        images: dict[Setting, list[np.ndarray]] = {setting: [] for setting in settings}
        seconds: dict[Setting, list[float]] = {setting: [] for setting in settings}
        batch_size = self.params.sample.batch_size
        for first in range(0, count, batch_size):
            seeds = range(first, min(first + batch_size, count))
            for setting in settings:
                start = time.perf_counter()
                sampled = self._sample(setting, seeds)
                seconds[setting].append((time.perf_counter() - start) / len(seeds))
                images[setting].append(to_uint8(sampled))
        return [
            {
                "solver": setting.solver,
                "steps": setting.steps,
                "tiling": setting.tiling,
                **self.quality(np.concatenate(images[setting])),
                "s/image": round(median(seconds[setting]), 4),
            }
            for setting in settings
        ]

    def _sample(self, setting: Setting, seeds: range) -> Tensor:
        """Return images of seeds, (n, 3, H, W) in about [-1, 1]."""
        if setting.straightforward:
            return self._sample_straightforward(setting, seeds)
        self.pipe.scheduler = solver(self.scheduler, setting.solver)
        return self.pipe(
            len(seeds),
            self.params.data.height,
            self.params.data.width,
            num_inference_steps=setting.steps,
            generator=generators(seeds),
            output_type="latent",
            tiling=setting.tiling,
            latent_num_inference_steps=self.params.latent.num_steps,
        ).images

    def _sample_straightforward(self, setting: Setting, seeds: range) -> Tensor:
        draws, data = generators(seeds), self.params.data
        x_T = torch.stack([torch.randn(3, data.height, data.width, generator=g) for g in draws])
        cond = torch.zeros(len(seeds), self.pipe.unet.config.cond_dim)
        if self.pipe.latent is not None:
            z_T = torch.stack([torch.randn(cond.shape[1], generator=g) for g in draws])
            cond = sample_codes(
                self.pipe.latent,
                self.pipe.latent_scheduler,
                z_T,
                num_steps=self.params.latent.num_steps,
            )
        return straightforward.sample(self.baseline, self.scheduler, x_T, cond, setting.steps)

    def nearer(self, images: np.ndarray) -> float:
        """Return the share of images nearer to training images, by features, than held-out ones."""
        found = nearest(self.features(images), self.real)
        return nearer_share(found.distances, self._held_out)

    @cached_property
    def _held_out(self) -> np.ndarray:
        features = self.features(self.store.images(self.store.rows("test")))
        return nearest(features, self.real).distances

    def quality(self, images: np.ndarray) -> dict[str, float]:
        """Compare images (n, H, W, 3) with the training images."""
        label, p = self.extractor.label, self.params.model.patch_size
        features, subset = self.features(images), self.params.evaluate.kid_subset_size
        distance = kid(features, self.real, subset_size=subset, seed=0).mean
        steps = step_maps([images])
        borders = border_scores(steps, self.real_steps, p)
        return {
            f"FID-{label}": round(fid(_moments(features), _moments(self.real)), 2),
            f"KID-{label}": round(distance, 4),
            "Seam": round(score_of_maps(*steps, p), 3),
            "Seam-padded": round(score_of_maps(*steps, p, p // 2), 3),
            "Seam-worst": round(borders[worst(borders)], 3),
        }

    def features(self, images: np.ndarray) -> np.ndarray:
        size = self.params.evaluate.batch_size
        batches = [images[start : start + size] for start in range(0, len(images), size)]
        return np.concatenate([self.extractor.features(batch).pooled for batch in batches])


def _moments(features: np.ndarray) -> Moments:
    moments = Moments(features.shape[1])
    moments.add(features)
    return moments
