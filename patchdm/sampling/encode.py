"""The global code of an image that the model was not trained on (PAPER, Applications)."""

from __future__ import annotations

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from patchdm.diffusion.loss import cut_windows, window_losses
from patchdm.grid import PatchGrid
from patchdm.models.semantic import CodeTable, SemanticEncoder
from patchdm.models.unet import PatchUNet


def code_of_image(
    code: CodeTable | SemanticEncoder,
    unet: PatchUNet,
    scheduler: DDIMScheduler,
    x0: Tensor,
    features: Tensor | None,
    *,
    num_steps: int,
    windows: int,
    learning_rate: float,
    generator: torch.Generator,
) -> Tensor:
    """Return the codes of images: what the encoder says, or what explains them best.

    Without an encoder, codes start from backbone features as those of the table did, and are
    optimised (Adam) under the training loss of their images. The network stays as it is.

    Args:
        code: the model's encoder or code table; the rest but x0 is for a table.
        unet: the network, in evaluation mode.
        scheduler: the noise schedule and prediction type it was trained with.
        x0: (B, C, H, W) images in [-1, 1], sides multiples of the patch size.
        features: (B, dim) of the images, from the backbone that the table was started from.
        num_steps: optimiser steps.
        windows: windows, time steps and noises drawn for each image a step.
        learning_rate: of Adam.
        generator: on the CPU; all draws come from it.

    Returns:
        (B, code_dim).

    Raises:
        ValueError: features are missing.
    """
    if isinstance(code, SemanticEncoder):
        with torch.no_grad():
            return code(x0)
    if features is None:
        raise ValueError(f"features are None, a code table needs those of {code.config.backbone}")
    codes = code.start(features).requires_grad_()
    optimizer = torch.optim.Adam([codes], lr=learning_rate)
    images = x0.repeat_interleave(windows, dim=0)
    for _ in range(num_steps):
        each = codes.repeat_interleave(windows, dim=0)
        loss = _random_loss(unet, scheduler, images, each, generator)
        (codes.grad,) = torch.autograd.grad(loss, codes)
        optimizer.step()
    return codes.detach()


def _random_loss(
    unet: PatchUNet,
    scheduler: DDIMScheduler,
    x0: Tensor,
    cond: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """The training loss of a random window of each image, at a random time step."""
    batch, channels, height, width = x0.shape
    p = unet.config.patch_size
    grid = PatchGrid.of(height, width, p)

    def draw(end: int, *shape: int) -> Tensor:
        return torch.randint(end, shape, generator=generator).to(x0.device)

    corner = torch.stack([draw(grid.rows, batch), draw(grid.cols, batch)], dim=1)
    window = cut_windows(x0, corner, draw(p + 1, batch, 2), p)
    t = draw(scheduler.config.num_train_timesteps, batch)
    noise = torch.randn(batch, channels, 2 * p, 2 * p, generator=generator).to(x0.device)
    losses = window_losses(unet, window, t, cond, noise=noise, scheduler=scheduler)
    return torch.stack(list(losses.values())).sum(dim=0).mean()
