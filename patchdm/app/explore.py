"""Images of codes that no seed has: between two seeds, and near to one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from patchdm.app.requests import Interpolate, Vary
from patchdm.formats.images import Pixels
from patchdm.formats.tensors import to_uint8
from patchdm.pipeline import PatchDMPipeline
from patchdm.sampling.codes import sample_codes
from patchdm.sampling.seeds import codes_of_seeds
from patchdm.sampling.solve import generators

Made = Iterator[tuple[int, int, Pixels]]
"""Numbers of images, their seeds and pixels."""


def between(
    pipe: PatchDMPipeline,
    asked: Interpolate,
    left: Sequence[int],
    size: tuple[int, int],
    options: dict[str, Any],
) -> Made:
    """Make images whose codes go from that of one seed to another's, by the noise of the first.

    Args:
        pipe: with a latent model.
        asked: what to make.
        left: numbers of the images that are to be made.
        size: height and width.
        options: of the pipeline's call.
    """
    first, last = codes_of_seeds(pipe, asked.seeds, options["latent_num_inference_steps"])
    seed = asked.seeds[0]
    for number in left:
        x_T, _, drawn = _begun(pipe, seed, size)
        code = torch.lerp(first, last, number / (asked.count - 1))[None]
        yield number, seed, _image(pipe, x_T, drawn, code, options)


def varied(
    pipe: PatchDMPipeline,
    asked: Vary,
    left: Sequence[int],
    size: tuple[int, int],
    options: dict[str, Any],
) -> Made:
    """Make variations of the image of one seed; arguments as of `between`.

    With strength 0 an image is that of `patchdm sample`: in all bytes where the seeds of that are
    computed one by one (`group_size` is 1), else within the rounding of other batches.
    """
    steps = options["latent_num_inference_steps"]
    turn = asked.strength * math.pi / 2
    for number in left:
        x_T, z, drawn = _begun(pipe, asked.seed, size)
        other = _begun(pipe, asked.towards[number], size)[1]
        mixed = math.cos(turn) * z + math.sin(turn) * other
        code = sample_codes(pipe.latent, pipe.latent_scheduler, mixed, num_steps=steps)
        yield number, asked.seed, _image(pipe, x_T, drawn, code, options)


def _begun(
    pipe: PatchDMPipeline, seed: int, size: tuple[int, int]
) -> tuple[Tensor, Tensor, list[torch.Generator]]:
    """Return what a call draws of a seed: x_T, the noise of its code, and what draws the rest."""
    drawn = generators([seed])
    x_T = pipe.gaussian(1, (pipe.unet.config.in_channels, *size), drawn)
    return x_T, pipe.gaussian(1, (pipe.latent.config.code_dim,), drawn), drawn


def _image(
    pipe: PatchDMPipeline,
    x_T: Tensor,
    drawn: list[torch.Generator],
    code: Tensor,
    options: dict[str, Any],
) -> Pixels:
    made = pipe(
        1, latents=x_T, generator=drawn, cond=code, output_type="latent", return_dict=False,
        **options,
    )[0]  # fmt: skip
    return to_uint8(made)[0]
