"""The solvers of params.yaml, as diffusers schedulers."""

from __future__ import annotations

from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    SchedulerMixin,
    UniPCMultistepScheduler,
)

SOLVERS: dict[str, type[SchedulerMixin]] = {
    "ddim": DDIMScheduler,
    "dpm-solver++": DPMSolverMultistepScheduler,
    "unipc": UniPCMultistepScheduler,
}
"""Name in params.yaml -> diffusers scheduler."""


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
    if name not in SOLVERS:
        raise ValueError(f"solver is {name!r}, expected {', '.join(SOLVERS)}")
    if name == "ddim":
        return DDIMScheduler.from_config(scheduler.config)
    return SOLVERS[name].from_config(
        scheduler.config, thresholding=True, sample_max_value=1.0, timestep_spacing="trailing"
    )
