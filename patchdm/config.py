"""The sections of params.yaml: typed, frozen, without defaults.

A run *is* its params.yaml, so every key must stand there and nowhere else. An unknown, missing
or mistyped key is an error that names it. `load_params` is the only way in.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from patchdm.errors import PatchDMError

Positive = Annotated[int, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Base of all sections: unknown keys and silent conversions are refused."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


class Base(Section):
    """What every stage shares."""

    seed: NotNegative
    """Root of every random draw of training. Samples have seeds of their own."""
    threads: Positive
    """CPU threads of a stage. Results are bit-identical at equal thread count."""


class Data(Section):
    """Where the photographs come from and how they become training images."""

    source: Literal["bundled", "folder"]
    """bundled: the archive in `location` with its CSV of hashes; folder: any images below it."""
    location: str
    """Path of the archive or folder, relative to the repository."""
    width: Positive
    """Width of a training image in pixels, a multiple of model.patch_size."""
    height: Positive
    """Height of a training image in pixels, a multiple of model.patch_size."""
    flips: bool
    """Add the mirror image of every training photograph as an image with its own code."""
    test_fraction: Annotated[float, Field(gt=0, lt=1)]
    """At least this share of the source photographs is held out of training."""


class Features(Section):
    """The frozen backbone whose features start the code table."""

    backbone: str
    """`efficientnet-lite0` or `open_clip:MODEL/PRETRAINED`, e.g. `open_clip:ViT-B-16/openai`."""
    weights: str | None
    """A local weights file for the backbone; null: the weights its package carries or loads."""
    batch_size: Positive
    """Images per forward pass; does not change the features."""


class Model(Section):
    """PatchUNet and the semantic code (PAPER section 3; backbone: ADM)."""

    patch_size: Positive
    """Side p of a square patch in pixels."""
    pixel_fold: Positive
    """Side of the pixel squares folded into channels at the network's door; the paper: 1."""
    channels: Annotated[list[Positive], Field(min_length=1)]
    """Width of each resolution level, finest first (ADM: base channels times multipliers)."""
    res_blocks: Positive
    """Residual blocks per encoder level; the decoder has one more."""
    attention_levels: list[NotNegative]
    """Levels (0 = full resolution) whose residual blocks are followed by self-attention."""
    norm_groups: Positive
    """Groups of every GroupNorm (the paper's network: 32), at most the channels normalised."""
    dropout: Probability
    """Dropout inside residual blocks."""
    embed_dim: Positive
    """Width of time ++ position embedding (half each)."""
    code: Literal["table", "encoder", "none"]
    """Global code: optimised table, jointly trained encoder, or the ablation without."""
    code_dim: Positive
    """Width of the global code."""
    position: bool
    """Condition on the patch position; false is the ablation without."""
    collage: Literal["feature", "pixel-fixed", "pixel-random", "none"]
    """feature: the paper. The others are its ablations, on the same network."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        unit = self.pixel_fold * 2 ** len(self.channels)
        _multiple(self.patch_size, unit, "patch_size", "pixel_fold * 2 ** len(channels)")
        _multiple(self.embed_dim, 4, "embed_dim", "4")
        for width in self.channels:
            _multiple(width, min(self.norm_groups, width), "channels", "norm_groups")
        for level in self.attention_levels:
            if level >= len(self.channels):
                raise ValueError(
                    f"attention_levels has {level}, allowed are 0 to {len(self.channels) - 1}"
                )
        return self


class Diffusion(Section):
    """Noise schedule and what the network predicts; names are those of diffusers."""

    num_train_timesteps: Positive
    beta_schedule: Literal["linear", "squaredcos_cap_v2"]
    """`linear` is the paper's; the cosine schedule of 2102.09672 keeps more signal."""
    beta_start: Rate
    """First beta of the linear schedule."""
    beta_end: Rate
    """Last beta of the linear schedule."""
    prediction_type: Literal["epsilon", "v_prediction"]
    """`epsilon` is the paper's; v-prediction: 2202.00512."""


class Train(Section):
    """Training of U-Net and code. Every budget is in images (windows) seen."""

    images_seen: Positive
    """Length of the training: one window of one image counts one."""
    batch_size: Positive
    """Windows per optimiser step, over all devices."""
    learning_rate: Rate
    code_learning_rate: Rate
    """Learning rate of the code table or joint encoder (the paper: the same)."""
    warmup_images: NotNegative
    """Images over which the learning rate rises linearly from 0."""
    lr_decay: Literal["none", "cosine"]
    """`none` is the paper's; cosine falls to 0 at the end of training."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)]
    """Decay of the weight average a step."""
    ema_warmup: bool
    """Cap the decay at (1 + step) / (10 + step), so that short trainings forget the start."""
    grad_clip: Rate
    """Largest norm of all gradients together."""
    min_snr_gamma: Rate | None
    """Weigh each time step by min(SNR, gamma), relative to x0 (2303.09556): less for steps of
    little noise. null: every step of the prediction type counts alike, as in the paper."""
    code_dropout: Probability
    """Probability of training a window without its global code (classifier-free guidance)."""
    position_dropout: Probability
    """Probability of training a window without its position."""
    windows: Literal["image", "batch"]
    """Draw the window position per image, or once a batch as the authors do."""
    mixed_precision: Literal["no", "bf16", "fp16"]
    channels_last: bool
    """Memory layout of the convolutions; a matter of speed."""
    log_every: Positive
    """Images seen between two points of the training curves."""
    checkpoint_every: Positive
    """Images seen between two resumable states."""
    sheet_every: Positive
    """Images seen between two sheets of samples."""


class Latent(Section):
    """The latent DDPM over global codes (Diffusion Autoencoders, 2111.15640)."""

    layers: Annotated[int, Field(ge=2)]
    hidden: Positive
    beta: Rate
    """Constant beta of its schedule (the paper: 0.008)."""
    codes_seen: Positive
    """Length of the training."""
    batch_size: Positive
    learning_rate: Rate
    lr_decay: Literal["none", "cosine"]
    """As in train."""
    weight_decay: Annotated[float, Field(ge=0)]
    ema_decay: Annotated[float, Field(ge=0, lt=1)]
    ema_warmup: bool
    grad_clip: Rate
    log_every: Positive
    """Codes seen between two points of the training curve."""
    checkpoint_every: Positive
    """Codes seen between two resumable states."""
    num_steps: Positive
    """DDIM steps when codes are sampled (the paper: 50)."""


class Sample(Section):
    """Sampling with EMA weights. Image i depends on seed i alone."""

    first_seed: NotNegative
    num_images: Positive
    """Seeds first_seed .. first_seed + num_images - 1, one PNG each."""
    solver: Literal["ddim"]
    num_steps: Positive
    guidance_scale: Annotated[float, Field(ge=0)]
    """w of (1 + w) eps(cond) - w eps(none); 0 is no guidance."""
    tiling: Literal["shifted", "alternate", "blend"]
    """Which predictions a step of feature collage uses: the shifted patches (the paper), shifted
    and plain in turn, or both blended across each other's borders. The other collage modes
    sample as they train, whatever stands here."""
    batch_size: Positive


class Evaluate(Section):
    """Metrics of the samples against the training images."""

    extractor: str
    """Feature extractor of FID and KID: `efficientnet-lite0` or `inception-v3-compat`."""
    weights: str | None
    """Local weights file of the extractor; null: those its package carries or loads."""
    batch_size: Positive
    kid_subset_size: Annotated[int, Field(ge=2)]
    """Images in each of KID's subsets; not more than there are samples."""


class Report(Section):
    """What the HTML report shows."""

    sheet_images: Positive
    """Images on each sheet."""


class Params(Section):
    """A whole params.yaml."""

    base: Base
    data: Data
    features: Features
    model: Model
    diffusion: Diffusion
    train: Train
    latent: Latent
    sample: Sample
    evaluate: Evaluate
    report: Report

    @model_validator(mode="after")
    def _sections_fit(self) -> Self:
        for side in ("width", "height"):
            _multiple(
                getattr(self.data, side), self.model.patch_size, f"data.{side}", "model.patch_size"
            )
        if self.train.batch_size > self.train.images_seen:
            raise ValueError(
                f"train.batch_size is {self.train.batch_size}, allowed is at most "
                f"train.images_seen = {self.train.images_seen}"
            )
        if self.sample.guidance_scale:
            for drop in ("code_dropout", "position_dropout"):
                if not getattr(self.train, drop):
                    raise ValueError(
                        f"train.{drop} is 0, allowed with sample.guidance_scale = "
                        f"{self.sample.guidance_scale} is above 0: guidance needs a network "
                        "trained without its conditions too"
                    )
        if self.evaluate.kid_subset_size > self.sample.num_images:
            raise ValueError(
                f"evaluate.kid_subset_size is {self.evaluate.kid_subset_size}, allowed is at "
                f"most sample.num_images = {self.sample.num_images}"
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


def load_params(path: Path) -> Params:
    """Read and check a params file.

    Raises:
        PatchDMError: the file is missing, no YAML, or has an unknown, missing or wrong key.
    """
    try:
        # YAML 1.2, as DVC reads it: 2e-4 is a number.
        values = YAML(typ="safe", pure=True).load(path)
    except OSError as error:
        raise PatchDMError(f"{path}: cannot be read: {error.strerror}") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise PatchDMError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        raise PatchDMError(f"{path}: {_one_line(error)}") from None


def params_hash(*sections: Section) -> str:
    """Return 64 hex digits that change with any value of the sections."""
    values = [section.model_dump(mode="json") for section in sections]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _multiple(value: int, divisor: int, name: str, divisor_name: str) -> None:
    if value % divisor:
        raise ValueError(f"{name} is {value}, allowed are multiples of {divisor_name} = {divisor}")


def _one_line(error: ValidationError) -> str:
    """Name key, finding and allowance of the first error, and how many more there are."""
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
            text = f"{key or 'params'}: found {first['input']!r}, {_lower(first['msg'])}"
    return text + (f" (and {len(more)} more)" if more else "")


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]
