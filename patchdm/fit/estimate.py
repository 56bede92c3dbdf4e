"""How long each stage of a run takes, from what was measured on a machine: a pure function.

The constants are those of the demo's stages on two quiet cores (AMD EPYC, Zen 5), whose times are
in docs/results.md; a test compares.
"""

from __future__ import annotations

from dataclasses import dataclass

from patchdm.applications import AGAIN, SEEDS
from patchdm.config import Params
from patchdm.extract.splits import held_out

START = 4.3
"""Seconds of a stage that `dvc repro` spends around its work: DVC, Python, imports."""
STAGES = (
    "check", "download", "extract_patches", "cache_features", "train_patchdm", "cache_embeddings",
    "train_latent", "sample", "applications", "reference", "evaluate", "tables", "report",
)  # fmt: skip
_PASSES = 4
"""An image is looked at whole, in halves, and in a crop."""
_STATISTICS = 1.75
"""Time of a pass with its statistics, over that of the features alone."""
_RESTORING = 1.5
"""Time of in- and outpainting and of large samples, over that of their operations."""
_FITTING = 2 / 3
"""A code is fitted without the gradients of weights."""
_PIXELS = 2e7
"""Of images that stage `report` reads in a second."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What a machine does in a second, all of its devices together."""

    windows: float  # of the training
    codes: float  # of the latent model's
    features: float  # images through the backbone
    flops: float  # operations of sampling
    photographs: float  # read and decoded


@dataclass(frozen=True, kw_only=True)
class Work:
    """Operations of one window of the training, and of one sample with the preset's steps."""

    window: float
    sample: float


def seconds_of(params: Params, photographs: int, rates: Rates, work: Work) -> dict[str, float]:
    """Return the seconds of each stage of a run with so many photographs.

    It need not have an ablation, whose stages do not count.
    """
    data, train, latent = params.data, params.train, params.latent
    sample, evaluate = params.sample, params.evaluate
    test = held_out(photographs, data.test_fraction)
    training = (photographs - test) * (data.views + data.flips)
    unseen, crops = test * data.views, evaluate.crops_per_image
    passes = (_PASSES - 1 + crops) * _STATISTICS / rates.features
    pixels = (sample.num_images + training) * data.width * data.height
    own = {
        "download": photographs / (20 * rates.photographs),
        "extract_patches": photographs * (1 + data.views / 20) / rates.photographs,
        "cache_features": training / rates.features,
        "train_patchdm": train.images_seen / rates.windows,
        "train_latent": latent.codes_seen / rates.codes,
        "sample": sample.num_images * work.sample / rates.flops,
        "applications": _applications(params, test, training, rates, work),
        "reference": (2 * training + unseen) * passes,
        "evaluate": sample.num_images * passes,
        "report": pixels / _PIXELS,
    }
    return {name: START + own.get(name, 0.0) for name in STAGES}


def applications_seconds(params: Params, test: int, rates: Rates, work: Work) -> float:
    """Return the seconds of in- and outpainting and of large samples, without what is measured."""
    config, sample = params.applications, params.sample
    images = min(config.num_images, test)
    restored = 2 * (images + (SEEDS - 1) * min(AGAIN, images))
    fitted = config.code_steps * config.code_windows if params.model.code == "table" else 0
    area = config.large_width * config.large_height / (params.data.width * params.data.height)
    steps = config.num_steps / sample.num_steps  # of those that `work.sample` counts
    operations = (
        restored * (fitted * _FITTING * work.window + config.resamplings * steps * work.sample)
        + images * (1 + 2 * area) * steps * work.sample
    )
    return _RESTORING * operations / rates.flops


def _applications(params: Params, test: int, training: int, rates: Rates, work: Work) -> float:
    """Return the seconds of stage `applications`: its images, and crops of all training images."""
    config, data = params.applications, params.data
    crops = max(1, config.large_width * config.large_height // (data.width * data.height))
    passes = training * crops * _STATISTICS + test * data.views
    return applications_seconds(params, test, rates, work) + passes / rates.features
