"""The training loss on one window of 2 x 2 padded patches (PAPER section 1, Training step)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from torch import Tensor

from patchdm.diffusion.schedules import paper_scheduler
from patchdm.grid import collage, merge, positions, split
from patchdm.models.unet import PatchUNet


@dataclass(frozen=True)
class Window:
    """One window of 2 x 2 padded patches from each of B images.

    Attributes:
        x0: (B, C, 2p, 2p) pixels in [-1, 1], anything in the padding.
        inside: (B, 1, 2p, 2p), 1 on the image, 0 on the padding around it.
        corner: (B, 2) row and column of the window's first padded patch; NaN: position dropped.
    """

    x0: Tensor
    inside: Tensor
    corner: Tensor


def training_loss(
    unet: PatchUNet,
    x0: Tensor,
    t: Tensor,
    cond: Tensor | None,
    *,
    noise: Tensor,
    window: tuple[int, int] | Tensor,
    scheduler: DDIMScheduler | None = None,
) -> Tensor:
    """Return the paper's loss of whole images on one window each, a scalar.

    Args:
        unet: the network.
        x0: (B, C, H, W) images in [-1, 1].
        t: (B,) time steps in 0..999.
        cond: (B, cond_dim) global codes, or None.
        noise: (B, C, H + p, W + p), Gaussian, on the padded canvas.
        window: (row, col) of the window's first padded patch, or (B, 2), one per image.
        scheduler: the noise schedule and prediction type; None is the paper's.
    """
    p = unet.config.patch_size
    corner = torch.as_tensor(window, device=x0.device).expand(len(x0), 2)
    inside = F.pad(torch.ones_like(x0[:, :1]), (p // 2,) * 4)
    canvas = F.pad(x0, (p // 2,) * 4)

    def crop(plane: Tensor) -> Tensor:
        corners = (corner * p).tolist()
        return torch.stack(
            [
                image[:, y : y + 2 * p, x : x + 2 * p]
                for image, (y, x) in zip(plane, corners, strict=True)
            ]
        )

    shifted, plain = window_losses(
        unet,
        Window(crop(canvas), crop(inside), corner.float()),
        t,
        cond,
        noise=crop(noise),
        scheduler=scheduler or paper_scheduler(),
    )
    return (shifted + plain).mean()


def window_losses(
    unet: PatchUNet,
    window: Window,
    t: Tensor,
    cond: Tensor | None,
    *,
    noise: Tensor,
    scheduler: DDIMScheduler,
) -> tuple[Tensor, Tensor]:
    """Return the mean squared errors (B,) of the shifted patch and of the four plain patches.

    The window's features serve two decodings with the same f_D: collaged to the one shifted
    patch, and as they are. The plain error is masked where the padding is, and its mean is over
    all elements (the authors' code).

    Args:
        unet: the network.
        window: pixels, mask and place of the windows.
        t: (B,) time steps.
        cond: (B, cond_dim) global codes, or None.
        noise: (B, C, 2p, 2p).
        scheduler: the noise schedule and prediction type.
    """
    p = unet.config.patch_size
    batch = len(t)
    x_t = scheduler.add_noise(window.x0, noise, t) * window.inside
    target = _target(scheduler, window.x0, noise, t)

    place = window.corner[:, None] + positions(1, 1, shifted=False, device=t.device)  # (B, 4, 2)
    features = unet.encode(split(x_t, p), t, place.flatten(0, 1), cond)
    plain = unet.decode(features, t, place.flatten(0, 1), cond)
    collaged = [collage(z, 1, 1) for z in features]
    shifted = unet.decode(collaged, t, window.corner + 0.5, cond)

    centre = target[..., p // 2 : -p // 2, p // 2 : -p // 2]
    plain_error = (merge(plain, 2, 2) - target) * window.inside
    return (
        (shifted - centre).square().reshape(batch, -1).mean(dim=1),
        plain_error.square().reshape(batch, -1).mean(dim=1),
    )


def _target(scheduler: DDIMScheduler, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """What the network is to predict: eps, or v = sqrt(a) eps - sqrt(1 - a) x0 (2202.00512)."""
    if scheduler.config.prediction_type == "v_prediction":
        return scheduler.get_velocity(x0, noise, t)
    return noise
