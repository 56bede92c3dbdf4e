"""The two noise schedules, as diffusers schedulers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diffusers import DDIMScheduler

if TYPE_CHECKING:  # what samples alone reads no params, and starts without pydantic
    from patchdm.config import Diffusion


def image_scheduler(diffusion: Diffusion) -> DDIMScheduler:
    """Return the DDIM scheduler of the image model (PAPER section 1, Sampling).

    Leading spacing gives t = 980, 960, .., 0 for 50 steps; x0 is clipped to [-1, 1] at every
    step (eps is recomputed from it when `use_clipped_model_output` is passed to `step`); the
    last alphas_cumprod_prev is 1.
    """
    return _image_scheduler(**diffusion.model_dump())


def paper_scheduler() -> DDIMScheduler:
    """Return the paper's schedule: linear betas 1e-4..0.02, T = 1000, eps-prediction."""
    return _image_scheduler(
        num_train_timesteps=1000,
        beta_schedule="linear",
        beta_start=1e-4,
        beta_end=0.02,
        prediction_type="epsilon",
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


def _image_scheduler(**schedule: Any) -> DDIMScheduler:
    return DDIMScheduler(
        **schedule,
        clip_sample=True,
        clip_sample_range=1.0,
        set_alpha_to_one=True,
        timestep_spacing="leading",
        steps_offset=0,
    )
