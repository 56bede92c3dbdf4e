"""Global codes from the latent model (PAPER section 1, Latent DDPM)."""

from __future__ import annotations

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from patchdm.models.latent import LatentMLP
from patchdm.models.semantic import CodeTable


@torch.no_grad()
def sample_codes(
    latent: LatentMLP, scheduler: DDIMScheduler, z_T: Tensor, *, num_steps: int
) -> Tensor:
    """Sample global codes: (B, code_dim) Gaussian -> (B, code_dim) codes, DDIM without clipping."""
    z = z_T
    scheduler.set_timesteps(num_steps)
    for t in scheduler.timesteps:
        eps = latent(z, t.expand(len(z)).to(z.device))
        z = scheduler.step(eps, t, z).prev_sample
    return latent.denormalize(z)


def chosen_codes(table: CodeTable, draws: Tensor) -> Tensor:
    """Choose codes of a table: (B, num_images) Gaussian -> (B, code_dim), each as likely."""
    # The largest of as many equal draws falls on each image alike.
    return table(draws.argmax(dim=1).to(table.device))
