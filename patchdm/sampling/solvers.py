"""Solvers: which ones there are, and what a scheduler of diffusers needs to be one."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    SchedulerMixin,
    UniPCMultistepScheduler,
)
from torch import Tensor

from patchdm.choices import Solver, check_choice
from patchdm.sampling.checks import check_count

SOLVERS: Mapping[str, type[SchedulerMixin]] = {
    "ddim": DDIMScheduler,
    "dpm-solver++": DPMSolverMultistepScheduler,
    "unipc": UniPCMultistepScheduler,
}
"""Name in params.yaml -> diffusers scheduler."""


_LEARNT = ("num_train_timesteps", "beta_schedule", "beta_start", "beta_end", "prediction_type")


def solver(scheduler: SchedulerMixin, name: str) -> SchedulerMixin:
    """Return another solver of the schedule that a model was trained with.

    All clip x0 to [-1, 1] at every step: DDIM by itself, the others by dynamic thresholding whose
    threshold may not leave 1. Their few steps start at the last time step.

    Args:
        scheduler: the trained one.
        name: "ddim" (1 step back a step), "dpm-solver++" (2M, 2211.01095) or "unipc" (2302.04867).

    Raises:
        ValueError: the name is unknown.
    """
    check_choice("solver", name, Solver)
    if name == "ddim":
        return DDIMScheduler.from_config(scheduler.config)
    return SOLVERS[name].from_config(
        scheduler.config, thresholding=True, sample_max_value=1.0, timestep_spacing="trailing"
    )


def begin(scheduler: SchedulerMixin, num_steps: int, first: int = 0) -> Tensor:
    """Set the steps of a solver, of which `first` is the one to begin with; return all times.

    Raises:
        ValueError: it takes no such number of steps, or it does not denoise by the noise schedule
            that a model was trained with.
    """
    check_count("num_inference_steps", num_steps)
    check_solver(scheduler)
    name, most = type(scheduler).__name__, scheduler.config.num_train_timesteps
    if num_steps > most:
        raise ValueError(f"`num_inference_steps` is {num_steps}, expected at most {most}")
    try:
        scheduler.set_timesteps(num_steps)
    except (ValueError, IndexError, TypeError) as error:
        raise ValueError(f"{name} takes no {num_steps} steps: {error}") from None
    if hasattr(scheduler, "set_begin_index"):
        # Else it looks for its place by the time, which several of Karras' steps may share.
        scheduler.set_begin_index(first)
    _check_times(name, scheduler.timesteps, most)
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


def schedule_of(scheduler: SchedulerMixin) -> dict[str, Any]:
    """Return what a network learnt of a scheduler, and every solver of it must have, too."""
    config = scheduler.config
    return {key: config[key] for key in _LEARNT if config.get(key) is not None}


def check_schedule(scheduler: SchedulerMixin, learnt: Mapping[str, Any]) -> None:
    """Raise a ValueError if a scheduler has another noise schedule or prediction than was learnt.

    Such as one that was not made `from_config`: its images would be noise.
    """
    check_solver(scheduler)
    for key, found in schedule_of(scheduler).items():
        if key in learnt and found != learnt[key]:
            name = type(scheduler).__name__
            raise ValueError(
                f"`scheduler` has {key} {found!r}, expected {learnt[key]!r} as the model learnt: "
                f"make it by {name}.from_config(pipe.scheduler.config)"
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
