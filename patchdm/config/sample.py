"""Sections sample and applications: what is made with the trained models."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from patchdm.choices import Code, Format, Solver, Tiling
from patchdm.config.section import NotNegative, Positive, Rate, Section


class Sample(Section):
    """Sampling with EMA weights. Image i depends on seed i alone."""

    first_seed: NotNegative
    num_images: Positive
    """Seeds first_seed .. first_seed + num_images - 1, one PNG each."""
    solver: Solver
    """`ddim` is the paper's (eta = 0); DPM-Solver++(2M) (2211.01095) and UniPC (2302.04867) of
    diffusers need fewer steps."""
    num_steps: Positive
    guidance_scale: Annotated[float, Field(ge=0)]
    """w of (1 + w) eps(cond) - w eps(none); 0 is no guidance."""
    guidance_interval: Annotated[list[NotNegative], Field(min_length=2, max_length=2)]
    """Time steps t with guidance, first <= t < last (2404.07724); the paper: all."""
    tiling: Tiling
    """Which predictions a step of feature collage uses: the shifted patches (the paper), shifted
    and plain in turn, the mean of both, or both blended across each other's borders. The other
    collage modes sample as they train, whatever stands here."""
    batch_size: Positive
    """Images denoised together, a matter of speed: it does not change them."""
    shard_size: Positive
    """Images of a shard: what one process claims, finishes and is checked by."""
    format: Format
    """A shard is a folder of PNG files, or a tar file of them as WebDataset reads it."""

    @model_validator(mode="after")
    def _interval_runs_forward(self) -> Self:
        first, last = self.guidance_interval
        if first >= last:
            raise ValueError(
                f"guidance_interval is [{first}, {last}], expected a first below the last"
            )
        return self


class Applications(Section):
    """What the model does beyond its training size, and to given photographs (PAPER section 1).

    Inpainting and outpainting are measured on held-out photographs.
    """

    num_images: Annotated[int, Field(ge=2)]
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
    code: Code
    """The global code: fitted to what is known of the photograph, or from the latent model."""
    code_steps: Positive
    """Optimiser steps of a fitted code, where there is no encoder."""
    code_windows: Positive
    """Windows drawn a step."""
    code_learning_rate: Rate
