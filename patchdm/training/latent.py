"""What the latent model trains on: noisy z-normalised codes under an L1 loss."""

from __future__ import annotations

import functools

import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn

from patchdm.config import Latent
from patchdm.diffusion.schedules import latent_scheduler
from patchdm.models.build import build_latent
from patchdm.models.latent import LatentMLP
from patchdm.training.batches import Batch, Draw
from patchdm.training.draws import draw_rows, generator


class LatentTraining(nn.Module):
    """The latent MLP as a module whose forward is the loss (PAPER section 1, Latent DDPM)."""

    def __init__(self, latent: LatentMLP, scheduler: DDIMScheduler) -> None:
        super().__init__()
        self.latent = latent
        self.scheduler = scheduler

    def forward(self, codes: Tensor, image: Tensor, t: Tensor, noise: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        """Mean |eps error| (B,) of codes (B, code_dim) at steps t (B,) with noise like codes.

        image, (B,), says whose codes they are.
        """
        z_t = self.scheduler.add_noise(self.latent.normalize(codes), noise, t)
        return {"loss": (self.latent(z_t, t) - noise).abs().mean(dim=1)}


def latent_training(config: Latent, codes: Tensor) -> LatentTraining:
    """Return what is trained on codes (n, code_dim), of weights that torch's generator draws."""
    latent = build_latent(config, codes.shape[1])
    latent.fit_normalization(codes)
    return LatentTraining(latent, latent_scheduler(config.beta))


def latent_optimizer(module: LatentTraining, config: Latent) -> torch.optim.Optimizer:
    """Return AdamW over the latent model."""
    return torch.optim.AdamW(
        module.latent.parameters(),
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        fused=True,
    )


def code_draw(codes: Tensor, *, num_timesteps: int, seed: int) -> Draw:
    """Return the draw for `LatentTraining.forward` from codes (n, code_dim)."""
    return functools.partial(_draw, codes, num_timesteps, seed)


def _draw(codes: Tensor, num_timesteps: int, seed: int, items: range) -> Batch:
    source = generator(seed, items.start)
    chosen = torch.from_numpy(draw_rows(len(codes), items, seed))
    return {
        "codes": codes[chosen],
        "image": chosen,
        "t": torch.randint(num_timesteps, (len(items),), generator=source),
        "noise": torch.randn(len(items), codes.shape[1], generator=source),
    }
