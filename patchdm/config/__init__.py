"""The sections of params.yaml: typed, frozen, without defaults.

A run *is* its params.yaml, which has every key. An unknown, missing or mistyped key is an error
that names it. `load_params` is the only way in.
"""

from __future__ import annotations

import hashlib
import json
from operator import attrgetter
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from patchdm.config.data import Data, Features, check_location
from patchdm.config.evaluate import Ablation, Evaluate, Report
from patchdm.config.model import Diffusion, Model
from patchdm.config.sample import Applications, Sample
from patchdm.config.section import NotNegative, Positive, Rate, Section, check_multiple
from patchdm.config.train import Latent, Train
from patchdm.errors import PatchDMError

__all__ = [
    "Ablation", "Applications", "Base", "Data", "Diffusion", "Evaluate", "Features", "Latent",
    "Machine", "Model", "Params", "Report", "Sample", "Section", "Train", "check_counts",
    "load_params", "params_hash", "validation_line",
]  # fmt: skip


class Base(Section):
    """Parameters of every stage."""

    seed: NotNegative
    """Root of every random draw of training. Samples have their own seeds."""
    threads: Positive
    """CPU cores of a stage: threads, or processes of one thread each if it trains or samples a
    small network. Equal counts give identical bits."""


class Machine(Section):
    """Speed and memory: it changes no byte on a CPU, no stage tracks it, no hash contains it."""

    transfers: Positive
    """Files that are downloaded at the same time."""
    workers: Positive
    """Processes that decode photographs."""
    processes: Positive | None
    """Processes that share each training step, one per GPU. null: one GPU; without GPUs one process
    per base.threads, among which the batch is divided (a single one for short trainings)."""
    loaders: NotNegative
    """Further processes of each of these that read and draw ahead; 0: none."""
    rows_per_chunk: Positive | None
    """Patch rows of the canvas that sampling decodes at once; null: all."""
    device_memory: Rate | None
    """GB (10^9 bytes) of a device: what needs more is refused before the training. null: those of
    the GPU; without a GPU nothing is refused."""
    deterministic: bool
    """Use only those kernels of GPUs that give the same bytes every time, which is slower. Those of
    CPUs always do."""


class Params(Section):
    """A whole params.yaml."""

    base: Base
    machine: Machine
    data: Data
    features: Features
    model: Model
    diffusion: Diffusion
    train: Train
    latent: Latent
    sample: Sample
    applications: Applications
    evaluate: Evaluate
    ablation: Ablation
    report: Report

    @model_validator(mode="after")
    def _sections_fit(self) -> Self:
        large = ("applications.large_width", "applications.large_height")
        for key in ("data.width", "data.height", *large):
            check_multiple(attrgetter(key)(self), self.model.patch_size, key, "model.patch_size")
        if self.rows * self.cols == 1:
            raise ValueError(
                f"data.width x data.height is {self.data.width}x{self.data.height}, expected more "
                f"than one patch of model.patch_size = {self.model.patch_size}"
            )
        check_multiple(
            self.train.batch_size // (self.train.micro_batch_size or 1),
            self.machine.processes or 1,
            "train.batch_size / train.micro_batch_size",
            "machine.processes",
        )
        check_multiple(
            self.sample.num_images, self.evaluate.blocks, "sample.num_images", "evaluate.blocks"
        )
        block = self.sample.num_images // self.evaluate.blocks
        images = f"a block has sample.num_images / evaluate.blocks = {block} images"
        steps = self.diffusion.num_train_timesteps
        seen = self.train.images_seen
        shorter = min(self.data.width, self.data.height)
        side = f"the shorter side of an image, {shorter}"
        for key, limit, expected in (
            ("train.batch_size", seen, f"train.images_seen = {seen}"),
            ("sample.num_steps", steps, f"diffusion.num_train_timesteps = {steps}"),
            ("applications.num_steps", steps, f"diffusion.num_train_timesteps = {steps}"),
            ("evaluate.kid_subset_size", block, f"{block}: {images}"),
            ("evaluate.nearest_k", block - 1, f"{block - 1}: {images}"),
            ("evaluate.crop_size", shorter, side),
        ):
            if (value := attrgetter(key)(self)) > limit:
                raise ValueError(f"{key} is {value}, expected at most {expected}")
        for key in large:
            if (value := attrgetter(key)(self)) < shorter:
                raise ValueError(
                    f"{key} is {value}, expected at least {side}, of which crops are compared"
                )
        return self

    @model_validator(mode="after")
    def _network_can_be_sampled_so(self) -> Self:
        asked = {f"ablation.samplings = [{name}]": name for name in self.ablation.samplings}
        if scale := self.sample.guidance_scale:
            asked[f"sample.guidance_scale = {scale}"] = "guided"
        if self.sample.code == "training":
            asked["sample.code = training"] = "training-codes"
        for key, name in asked.items():
            for drop in ("code_dropout", "position_dropout"):
                if name.startswith("guided") and not getattr(self.train, drop):
                    raise ValueError(
                        f"train.{drop} is 0, expected with {key}: above 0, since guidance needs a "
                        "network trained without its conditions too"
                    )
            if name == "training-codes" and self.model.code != "table":
                raise ValueError(
                    f"model.code is {self.model.code}, expected with {key}: table, which has the "
                    "codes of the training images"
                )
        return self

    @property
    def rows(self) -> int:
        """Patch rows of an image."""
        return self.data.height // self.model.patch_size

    @property
    def cols(self) -> int:
        """Patch columns of an image."""
        return self.data.width // self.model.patch_size


def check_counts(params: Params, *, train: int, test: int) -> None:
    """Refuse too few images for later stages, before hours are spent on earlier ones.

    `train` counts images to train on, mirror images included, and `test` those held out.
    """
    batch, k = params.train.batch_size, params.evaluate.nearest_k
    for key, value, least in (("train.batch_size", batch, batch), ("evaluate.nearest_k", k, k + 1)):
        if train < least:
            raise PatchDMError(
                f"{key} is {value}: found {train} training images, expected {least} or more "
                "(more photographs, or a smaller number here or of data.test_fraction)"
            )
    if test < 2:
        raise PatchDMError(
            f"data.test_fraction is {params.data.test_fraction}: found {test} held-out images, "
            "expected 2 or more (more photographs, or a larger number here)"
        )


def load_params(path: Path) -> Params:
    """Read and check a params file.

    Raises:
        PatchDMError: the file is missing or no YAML, or a key is unknown, missing or wrong.
    """
    try:
        # YAML 1.2, like DVC: 2e-4 is a number.
        values = YAML(typ="safe", pure=True).load(path)
    except OSError as error:
        raise PatchDMError(f"{path}: cannot be read: {error.strerror}") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise PatchDMError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    return checked_params(values, path)


def checked_params(values: Any, path: Path) -> Params:
    """Check the values of a params file.

    Raises:
        PatchDMError: a key is unknown, missing or wrong.
    """
    try:
        params = Params.model_validate(values)
        check_location(params.data, path.parent)
    except ValidationError as error:
        raise PatchDMError(f"{path}: {validation_line(error)}") from None
    except ValueError as error:
        raise PatchDMError(f"{path}: {error}") from None
    return params


def params_hash(*sections: Section) -> str:
    """Return 64 hex digits that change with any value of the sections."""
    values = [section.model_dump(mode="json") for section in sections]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def validation_line(error: ValidationError) -> str:
    """Return key, value and expectation of the first error, and the number of others."""
    first, *more = error.errors()
    key = ".".join(str(part) for part in first["loc"])
    match first["type"]:
        case "extra_forbidden":
            text = f"{key}: unknown key"
        case "missing":
            text = f"{key}: missing"
        case "value_error":
            text = f"{key}: {first['ctx']['error']}" if key else str(first["ctx"]["error"])
        case _:
            message = first["msg"][:1].lower() + first["msg"][1:]
            text = f"{key or 'params'}: found {first['input']!r}, {message}"
    return text + (f" (and {len(more)} more)" if more else "")
