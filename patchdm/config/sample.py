"""Sections sample and applications: images from the trained models."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from patchdm.choices import Code, Format, Precision, SampleCode, Solver, Tiling
from patchdm.config.section import NotNegative, Positive, Rate, Section


class Sample(Section):
    """Sampling with EMA weights. Image i depends only on seed i."""

    first_seed: NotNegative
    num_images: Positive
    """Seeds first_seed .. first_seed + num_images - 1, one image each."""
    solver: Solver
    """`ddim` is the paper's (eta = 0); DPM-Solver++(2M) (2211.01095) and UniPC (2302.04867) of
    diffusers need fewer steps."""
    num_steps: Positive
    guidance_scale: Annotated[float, Field(ge=0)]
    """w of (1 + w) eps(cond) - w eps(none); 0 is no guidance."""
    guidance_interval: Annotated[list[NotNegative], Field(min_length=2, max_length=2)]
    """Time steps t with guidance, first <= t < last (2404.07724); the paper: all."""
    code: SampleCode
    """The global code: from the latent model (the paper), or that of a training image, drawn by
    chance from the table, which shows what the latent model costs."""
    tiling: Tiling
    """shifted: by feature collage on the grid that tiles the image (the paper). blend: the last
    quarter of the steps on four grids half a patch apart, blended across each other's borders, in
    1.75 times the time. The other collage modes sample as they train and ignore this key."""
    mixed_precision: Precision
    """What the network computes in where stages and commands sample, in- and outpainting included;
    solvers compute in float32. `auto` is bf16 if the device computes in it natively, else float32:
    the images of two devices then differ."""
    compile: bool
    """Let stage `sample` pass the network through torch.compile: minutes first, then faster on
    GPUs."""
    batch_size: Positive
    """Images denoised together; it changes speed, not images."""
    shard_size: Positive
    """Images per shard, which one process claims, writes and checks."""
    format: Format
    """A shard is a folder of PNG files, or a tar file of them for WebDataset."""

    @model_validator(mode="after")
    def _interval_runs_forward(self) -> Self:
        first, last = self.guidance_interval
        if first >= last:
            raise ValueError(
                f"guidance_interval is [{first}, {last}], expected a first below the last"
            )
        return self


class Applications(Section):
    """Inpainting and outpainting of held-out photographs, and large samples (PAPER section 1)."""

    num_images: Annotated[int, Field(ge=2)]
    """Held-out photographs that are restored, at most all of them, and large samples."""
    large_width: Positive
    """Width of the samples beyond the training size, a multiple of model.patch_size."""
    large_height: Positive
    hole: Annotated[float, Field(gt=0, lt=1)]
    """Side of the hole to inpaint as a share of the image's; share of the width to outpaint."""
    num_steps: Positive
    """Solver steps: of DDIM for photographs, of `sample.solver` for large samples."""
    tiling: Tiling
    """As `sample.tiling`, for photographs."""
    resamplings: Positive
    """Repetitions of each step, from renewed noise after the first (RePaint, 2201.09865)."""
    blend_width: NotNegative
    """Pixels inside the hole over which a step adopts the difference at the known border."""
    code: Code
    """The global code: fitted to the known pixels of the photograph, from the latent model, or a
    field of both, see `RestoringMixin.inpaint`."""
    code_steps: Positive
    """Optimiser steps that fit a code, for models without an encoder."""
    code_windows: Positive
    """Windows drawn per step."""
    code_learning_rate: Rate
