"""What the latent model trains on: noisy z-normalised codes under an L1 loss."""

from __future__ import annotations

import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn

from patchdm.models.latent import LatentMLP
from patchdm.training.draws import draw_rows, step_generator
from patchdm.training.loop import Draw


class LatentTraining(nn.Module):
    """The latent MLP as a module whose forward is the loss (PAPER section 1, Latent DDPM)."""

    def __init__(self, latent: LatentMLP, scheduler: DDIMScheduler) -> None:
        super().__init__()
        self.latent = latent
        self.scheduler = scheduler

    def forward(self, codes: Tensor, t: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """Mean |eps error| of codes (B, code_dim) at steps t (B,) with noise (B, code_dim)."""
        z_t = self.scheduler.add_noise(self.latent.normalize(codes), noise, t)
        return {"loss": (self.latent(z_t, t) - noise).abs().mean()}


def code_draw(codes: Tensor, batch_size: int, *, num_timesteps: int, seed: int) -> Draw:
    """Return the draw of a step for `LatentTraining.forward` from codes (n, code_dim)."""

    def draw(step: int) -> tuple[Tensor, ...]:
        generator = step_generator(seed, step)
        chosen = codes[draw_rows(len(codes), batch_size, seed, step)]
        t = torch.randint(num_timesteps, (batch_size,), generator=generator)
        return chosen, t, torch.randn(chosen.shape, generator=generator)

    return draw
