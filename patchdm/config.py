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
    solver: Literal["ddim", "dpm-solver++", "unipc"]
    """`ddim` is the paper's (eta = 0); DPM-Solver++(2M) (2211.01095) and UniPC (2302.04867) of
    diffusers need fewer steps."""
    num_steps: Positive
    guidance_scale: Annotated[float, Field(ge=0)]
    """w of (1 + w) eps(cond) - w eps(none); 0 is no guidance."""
    guidance_interval: Annotated[list[NotNegative], Field(min_length=2, max_length=2)]
    """Time steps t with guidance, first <= t < last (2404.07724); the paper: all."""
    tiling: Literal["shifted", "alternate", "average", "blend"]
    """Which predictions a step of feature collage uses: the shifted patches (the paper), shifted
    and plain in turn, the mean of both, or both blended across each other's borders. The other
    collage modes sample as they train, whatever stands here."""
    rows_per_chunk: Positive | None
    """Patch rows of the canvas that are decoded at once, a matter of memory; null: all."""
    batch_size: Positive
    """Images denoised together, a matter of speed: it does not change them."""
    shard_size: Positive
    """Images of a shard: what one process claims, finishes and is checked by."""
    format: Literal["png", "webdataset"]
    """A shard is a folder of PNG files, or a tar file of them as WebDataset reads it."""

    @model_validator(mode="after")
    def _interval_runs_forward(self) -> Self:
        first, last = self.guidance_interval
        if first >= last:
            raise ValueError(
                f"guidance_interval is [{first}, {last}], allowed are a first below the last"
            )
        return self


class Applications(Section):
    """What the model does beyond its training size, and to given photographs (PAPER section 1).

    Inpainting and outpainting are measured on held-out photographs.
    """

    num_images: Positive
    """Held-out photographs that are restored, and large samples; as many as there are at most."""
    large_width: Positive
    """Width of the samples beyond the training size, a multiple of model.patch_size."""
    large_height: Positive
    hole: Annotated[float, Field(gt=0, lt=1)]
    """Side of the hole to inpaint over the side of the image; outpainting loses as much width."""
    num_steps: Positive
    """Solver steps: of DDIM for photographs, of `sample.solver` for large samples."""
    resamplings: Positive
    """Times a step is made, from renewed noise after the first (RePaint, 2201.09865)."""
    blend_width: NotNegative
    """Pixels into what is made over which a step takes on the difference at the known border."""
    code: Literal["image", "latent"]
    """The global code: fitted to what is known of the photograph, or from the latent model."""
    code_steps: Positive
    """Optimiser steps of a fitted code, where there is no encoder."""
    code_windows: Positive
    """Windows drawn a step."""
    code_learning_rate: Rate


class Evaluate(Section):
    """Metrics of the samples against the training images."""

    extractor: str
    """Feature extractor of all metrics: `efficientnet-lite0`, `inception-adm`, or one of
    torch-fidelity's, e.g. `clip-vit-b-32`, `dinov2-vit-b-14`."""
    weights: str | None
    """Local weights file of the first two extractors; null: those it carries or loads."""
    batch_size: Positive
    blocks: Positive
    """Equal blocks of consecutive seeds that are measured apart; tables give mean and minimum."""
    kid_subset_size: Annotated[int, Field(ge=2)]
    """Images in each of KID's subsets; not more than a block has."""
    nearest_k: Positive
    """Neighbour whose distance is the radius of precision, recall, density and coverage."""
    crop_size: Positive
    """Side in pixels of the full-resolution crops of crop-FID, at most the image's."""
    crops_per_image: Positive


class Ablation(Section):
    """The paper's ablation: the same stages with other parameters, for every variant and seed."""

    variants: list[
        Literal["full", "no-position", "pixel-fixed", "pixel-random", "no-collage", "no-code"]
    ]
    """Empty: no ablation. `full` is the run itself, at every seed."""
    seeds: list[NotNegative]
    """Values of base.seed; empty where there are no variants."""

    @model_validator(mode="after")
    def _seeds_go_with_variants(self) -> Self:
        if bool(self.variants) != bool(self.seeds):
            raise ValueError(
                f"seeds is {self.seeds}, allowed with variants = {self.variants} are "
                f"{'one or more' if self.variants else 'none'}"
            )
        for name in ("variants", "seeds"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name} is {values}, allowed is each value once")
        return self


class Report(Section):
    """What the HTML report shows."""

    sheet_images: Positive
    """Images on each sheet."""
    nearest_images: Positive
    """Samples that are shown beside their nearest training images."""


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
    applications: Applications
    evaluate: Evaluate
    ablation: Ablation
    report: Report

    @model_validator(mode="after")
    def _sections_fit(self) -> Self:
        for side in ("width", "height"):
            for key, value in (
                (f"data.{side}", getattr(self.data, side)),
                (f"applications.large_{side}", getattr(self.applications, f"large_{side}")),
            ):
                _multiple(value, self.model.patch_size, key, "model.patch_size")
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
        _multiple(
            self.sample.num_images, self.evaluate.blocks, "sample.num_images", "evaluate.blocks"
        )
        block = self.sample.num_images // self.evaluate.blocks
        for key, value, least in (
            ("kid_subset_size", self.evaluate.kid_subset_size, self.evaluate.kid_subset_size),
            ("nearest_k", self.evaluate.nearest_k, self.evaluate.nearest_k + 1),
        ):
            if least > block:
                raise ValueError(
                    f"evaluate.{key} is {value}, allowed is at most {block - least + value}: "
                    f"a block has sample.num_images / evaluate.blocks = {block} images"
                )
        shorter = min(self.data.width, self.data.height)
        if self.evaluate.crop_size > shorter:
            raise ValueError(
                f"evaluate.crop_size is {self.evaluate.crop_size}, allowed is at most the "
                f"shorter side of an image, {shorter}"
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
