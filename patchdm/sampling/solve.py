"""The way from noise to image: one loop over the steps of a solver.

A step is a function of x_t, which `whole` makes of any solver of diffusers. Canvases larger than
memory go another way: `patchdm.sampling.blocks`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from diffusers import SchedulerMixin
from torch import Tensor

from patchdm.sampling.coarse import first_step
from patchdm.sampling.solvers import begin
from patchdm.sampling.tilings import Step

Predict = Callable[[Tensor, Step], Tensor]
"""(x_t, step) -> what the network predicts of the whole canvas."""
Advance = Callable[[Tensor, Step], Tensor]
"""(x_t, step) -> x at the time of the next step."""
Show = Callable[[Sequence[Step]], Iterable[Step]]
"""Wraps the steps, as a progress bar does."""


@torch.no_grad()
def run(
    advance: Advance,
    timesteps: Tensor,
    x: Tensor,
    *,
    first: int = 0,
    repeats: int = 1,
    on_step: Advance | None = None,
    show: Show = iter,
) -> Tensor:
    """Go through the steps of a solver.

    Args:
        advance: makes a step.
        timesteps: (n,) times of the steps.
        x: (B, C, H, W) at the time of the first step that is made.
        first: that step.
        repeats: times each step is made.
        on_step: (x, step) after a step -> the x to go on with.
        show: wraps the steps.

    Returns:
        x_0, (B, C, H, W).
    """
    steps = [Step(t, index, len(timesteps)) for index, t in enumerate(timesteps)][first:]
    for step in show([step for step in steps for _ in range(repeats)]):
        x = advance(x, step)
        if on_step is not None:
            x = on_step(x, step)
    return x


def solve(
    predict: Predict,
    scheduler: SchedulerMixin,
    x_T: Tensor,
    *,
    num_steps: int,
    image: Tensor | None = None,
    strength: float = 1.0,
    generator: torch.Generator | list[torch.Generator] | None = None,
    on_step: Advance | None = None,
    show: Show = iter,
) -> Tensor:
    """Denoise a canvas, in float32 whatever the network computes in.

    Args:
        predict: such as a `Denoiser`.
        scheduler: the solver; its time steps are set here.
        x_T: (B, C, H, W) Gaussian noise.
        num_steps: solver steps.
        image: (B, C, H, W) to begin with, in [-1, 1], noised by x_T; None: x_T alone.
        strength: share of the steps that are then made, the last ones.
        generator: gives the noise that a solver adds.
        on_step, show: as in `run`.

    Returns:
        x_0, (B, C, H, W).

    Raises:
        ValueError: the solver, the number of steps or the strength does not fit, see `begin`.
    """
    first = 0 if image is None else first_step(strength, num_steps)
    timesteps = begin(scheduler, num_steps, first)
    x = noised(scheduler, x_T, timesteps[first], image)
    advance = whole(predict, scheduler, generator)
    return run(advance, timesteps, x, first=first, on_step=on_step, show=show)


def noised(scheduler: SchedulerMixin, noise: Tensor, t: Tensor, image: Tensor | None) -> Tensor:
    """Return what a solver begins with at a time: noise, or an image with noise."""
    if image is None:
        return noise * scheduler.init_noise_sigma
    return scheduler.add_noise(image, noise, t.reshape(1))


def whole(
    predict: Predict,
    scheduler: SchedulerMixin,
    generator: torch.Generator | list[torch.Generator] | None = None,
) -> Advance:
    """Return a step of any solver, which adds the noise of a generator where it adds any."""
    accepted = inspect.signature(scheduler.step).parameters
    # PAPER section 1, Sampling: eps is recomputed from the clipped x0.
    offered = {"generator": generator, "use_clipped_model_output": True}
    options: dict[str, Any] = {key: value for key, value in offered.items() if key in accepted}

    def advance(x_t: Tensor, step: Step) -> Tensor:
        eps = predict(scheduler.scale_model_input(x_t, step.t), step)
        return scheduler.step(eps, step.t, x_t, **options).prev_sample

    return advance


def generators(seeds: Iterable[int]) -> list[torch.Generator]:
    """Return one CPU generator per seed, so that image i depends on seed i alone."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]
