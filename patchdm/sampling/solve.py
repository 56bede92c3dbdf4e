"""The way from x_T to x_0: any solver of diffusers over the canvas denoiser."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from numbers import Integral
from typing import Any

import torch
from diffusers import SchedulerMixin
from torch import Tensor

from patchdm.grid import PatchGrid
from patchdm.models.unet import PatchUNet
from patchdm.sampling.denoise import PLAIN, Denoiser, Tiling

Step = Callable[[int, Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor | None]]
"""(number, t, x_t, cond) after a step -> the x_t and cond to go on with."""


@torch.no_grad()
def solve(
    unet: PatchUNet,
    scheduler: SchedulerMixin,
    x_T: Tensor,
    cond: Tensor | None,
    *,
    num_steps: int,
    tiling: str = "shifted",
    guidance: Callable[[int], float] | None = None,
    generator: torch.Generator | list[torch.Generator] | None = None,
    on_step: Step | None = None,
    show: Callable[[Tensor], Iterable[Tensor]] = iter,
    **chunks: Any,
) -> Tensor:
    """Denoise a canvas, in float32 whatever the network computes in.

    Args:
        unet: the network, in evaluation mode.
        scheduler: the solver; its time steps are set here.
        x_T: (B, C, H, W) Gaussian noise.
        cond: (B, cond_dim) global codes, or None.
        num_steps: solver steps.
        tiling: see `tiling_of_step`.
        guidance: time step t -> guidance_scale w; None: none.
        generator: gives the noise that a solver adds.
        on_step: called after each step, and may replace x_t and cond.
        show: wraps the time steps, as a progress bar does.
        **chunks: rows_per_chunk, cols_per_chunk, grid_shape of `predict_eps`.

    Returns:
        x_0, (B, C, H, W).

    Raises:
        ValueError: the solver or the number of steps does not fit, see `begin`.
    """
    timesteps = begin(scheduler, num_steps)
    accepted = inspect.signature(scheduler.step).parameters
    # PAPER section 1, Sampling: eps is recomputed from the clipped x0.
    offered = {"generator": generator, "use_clipped_model_output": True}
    options = {name: value for name, value in offered.items() if name in accepted}
    x_t = x_T * scheduler.init_noise_sigma
    height, width = x_t.shape[-2:]
    grid = PatchGrid.of(height, width, unet.config.patch_size)
    denoiser = Denoiser(unet, grid, cond, **chunks)
    for index, t in enumerate(show(timesteps)):
        eps = denoiser(
            scheduler.scale_model_input(x_t, t),
            t.expand(len(x_t)).to(x_t.device),
            guidance_scale=guidance(int(t)) if guidance else None,
            tiling=tiling_of_step(unet, tiling, index, len(timesteps)),
        )
        x_t = scheduler.step(eps, t, x_t, **options).prev_sample
        if on_step is not None:
            x_t, cond = on_step(index, t, x_t, cond)
            if cond is not denoiser.cond:
                denoiser = Denoiser(unet, grid, cond, **chunks)
    return x_t


def begin(scheduler: SchedulerMixin, num_steps: int) -> Tensor:
    """Set the steps of a solver and return their times.

    Raises:
        ValueError: it takes no such number of steps, or it does not denoise by the noise schedule
            that a model was trained with.
    """
    check_count("num_inference_steps", num_steps)
    check_solver(scheduler)
    name = type(scheduler).__name__
    try:
        scheduler.set_timesteps(num_steps)
    except (ValueError, IndexError, TypeError) as error:
        raise ValueError(f"{name} takes no {num_steps} steps: {error}") from None
    if hasattr(scheduler, "set_begin_index"):
        # Else it looks for its place by the time, which several of Karras' steps may share.
        scheduler.set_begin_index(0)
    _check_times(name, scheduler.timesteps, scheduler.config.num_train_timesteps)
    return scheduler.timesteps


def check_solver(scheduler: SchedulerMixin) -> None:
    """Raise a ValueError if a scheduler has no noise schedule of a model, or its steps need more.

    Such as those of flow matching, and RePaint's, which take the image.
    """
    steps = inspect.signature(getattr(scheduler, "step", lambda: None)).parameters.values()
    needed = [each.name for each in steps if each.default is each.empty and each.name != "kwargs"]
    if not hasattr(scheduler, "alphas_cumprod") or len(needed) != 3:  # prediction, time, x_t
        raise ValueError(
            f"`scheduler` is a {type(scheduler).__name__}, expected a solver of the model's own "
            "noise schedule, such as DDIM, DPM-Solver++ or UniPC"
        )


def _check_times(name: str, timesteps: Tensor, num_train_timesteps: int) -> None:
    """Refuse steps that run from image to noise, and ten or more that leave out all between."""
    if timesteps[0] < timesteps[-1]:
        raise ValueError(
            f"`scheduler` is a {name}, expected a solver that goes from noise to image"
        )
    gaps = -timesteps.double().diff()
    if len(timesteps) >= 10 and gaps.max() > 0.9 * num_train_timesteps:
        place = int(gaps.argmax())
        raise ValueError(
            f"{name} jumps from t = {timesteps[place]:g} to {timesteps[place + 1]:g}, expected "
            "sigmas that spread over the model's noise schedule, such as Karras'"
        )


def check_count(name: str, value: Any, least: int = 1) -> None:
    """Raise a ValueError if an argument is no whole number from `least` on."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"`{name}` is {value!r}, expected a whole number of {least} or more")


def check_guidance(unet: PatchUNet, scale: float) -> None:
    """Raise a ValueError if a guidance scale is out of range, or the network cannot be guided."""
    if not 0 <= scale < math.inf:
        raise ValueError(f"`guidance_scale` is {scale}, expected 0 or more")
    if scale and unet.config.unconditional is False:
        raise ValueError(
            f"`guidance_scale` is {scale}, expected 0: the network was not trained without its "
            "conditions too (train.code_dropout and train.position_dropout above 0)"
        )


def tiling_of_step(unet: PatchUNet, tiling: str, index: int, num_steps: int) -> Tiling:
    """Return which patches predict step `index` of `num_steps`, as the network was trained.

    What alternates ends with the shifted patches, which tile the image.

    Args:
        unet: the network; its config names the collage mode.
        tiling: as in `PatchDMPipeline`; of feature collage, the other modes have their own.
        index: number of the step, from 0.
        num_steps: steps in all.

    Raises:
        ValueError: the tiling is unknown.
    """
    shifted_turn = (num_steps - index) % 2 == 1
    half = unet.config.patch_size // 2
    match unet.config.collage:
        case "none":
            return half, half
        case "pixel-fixed":
            return (half, half) if shifted_turn else PLAIN
        case "pixel-random":
            generator = torch.Generator().manual_seed(index)  # equal for all images
            y, x = torch.randint(1 - half, half + 1, (2,), generator=generator).tolist()
            return y, x
    tilings: dict[str, Tiling] = {
        "shifted": "shifted",
        "average": "average",
        "blend": "blend",
        "alternate": "shifted" if shifted_turn else PLAIN,
    }
    if tiling not in tilings:
        raise ValueError(f"tiling is {tiling!r}, expected {', '.join(tilings)}")
    return tilings[tiling]


def generators(seeds: Iterable[int]) -> list[torch.Generator]:
    """Return one CPU generator per seed, so that image i depends on seed i alone."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]
