"""The two noise schedules and the solvers, as diffusers schedulers."""

from __future__ import annotations

from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    SchedulerMixin,
    UniPCMultistepScheduler,
)

from patchdm.config import Diffusion


def image_scheduler(diffusion: Diffusion) -> DDIMScheduler:
    """Return the DDIM scheduler of the image model (PAPER section 1, Sampling).

    Leading spacing gives t = 980, 960, .., 0 for 50 steps; x0 is clipped to [-1, 1] at every
    step (eps is recomputed from it when `use_clipped_model_output` is passed to `step`); the
    last alphas_cumprod_prev is 1.
    """
    return DDIMScheduler(
        **diffusion.model_dump(),
        clip_sample=True,
        clip_sample_range=1.0,
        set_alpha_to_one=True,
        timestep_spacing="leading",
        steps_offset=0,
    )


def paper_scheduler() -> DDIMScheduler:
    """Return the paper's schedule: linear betas 1e-4..0.02, T = 1000, eps-prediction."""
    return image_scheduler(
        Diffusion(
            num_train_timesteps=1000,
            beta_schedule="linear",
            beta_start=1e-4,
            beta_end=0.02,
            prediction_type="epsilon",
        )
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
        raise ValueError(f"solver is {name!r}, allowed are {', '.join(SOLVERS)}")
    if name == "ddim":
        return DDIMScheduler.from_config(scheduler.config)
    return SOLVERS[name].from_config(
        scheduler.config, thresholding=True, sample_max_value=1.0, timestep_spacing="trailing"
    )


def latent_scheduler(beta: float = 0.008) -> DDIMScheduler:
    """Return the latent model's DDIM scheduler: constant betas, T = 1000, no clipping."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="linear",
        beta_start=beta,
        beta_end=beta,
        prediction_type="epsilon",
        clip_sample=False,
        set_alpha_to_one=True,
        timestep_spacing="leading",
        steps_offset=0,
    )
