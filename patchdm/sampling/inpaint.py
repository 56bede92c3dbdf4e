"""Inpainting: known pixels stay, the others are sampled around them (after RePaint, 2201.09865)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from patchdm.sampling.fill import nearest_known


def inpaint(
    predict: Callable[[Tensor, Tensor, int], Tensor],
    scheduler: DDIMScheduler,
    known: Tensor,
    mask: Tensor,
    x_T: Tensor,
    draw: Callable[[], Tensor],
    *,
    resamplings: int,
    blend_width: int,
) -> Tensor:
    """Sample what is masked by DDIM, bringing the known pixels to their noise at every step.

    Differs from RePaint: the noise of the known pixels is that of the canvas, x_T, and is renewed
    with it, where RePaint draws it anew at every step. A pixel that is predicted as it is known
    then follows the path on which it is put back, so both sides of the border fit in noise too;
    with nothing known and one resampling this is plain sampling.

    Args:
        predict: (x_t, t, number of the step) -> what the network predicts of the whole canvas.
        scheduler: the noise schedule, its steps set.
        known: (B, C, H, W) images in [-1, 1], anything where masked.
        mask: (B, 1, H, W) bool, True where pixels are made.
        x_T: (B, C, H, W) Gaussian noise.
        draw: gives further noise like x_T, once for each step that is repeated.
        resamplings: times each step is made, from renewed noise after the first; more bring the
            made content in line with the known.
        blend_width: pixels into the mask over which a step takes on the difference between known
            and predicted content at the nearest known pixel, linearly less; 0: a hard border.

    Returns:
        (B, C, H, W); `known` exactly where not masked.
    """
    pull, nearest = _pull(mask, blend_width)
    timesteps = scheduler.timesteps
    noise = x_T
    x_t = torch.where(mask, x_T, scheduler.add_noise(known, noise, timesteps[:1]))
    for index, t in enumerate(timesteps):
        a, a_prev = _signals(scheduler, index)
        for turn in range(resamplings):
            if turn:
                x_t, noise = _renewed(x_t, noise, draw(), a, a_prev)
            output = predict(x_t, t, index)
            x_t = scheduler.step(output, t, x_t, use_clipped_model_output=True).prev_sample
            # From here x_t is that of the next step.
            missing = a_prev.sqrt() * known + (1 - a_prev).sqrt() * noise - x_t
            spread = missing.flatten(2).gather(2, nearest.expand(-1, x_t.shape[1], -1))
            x_t = x_t + pull * spread.view_as(x_t)
    return torch.where(mask, x_t, known)


def checked_mask(mask: Tensor, known: Tensor) -> Tensor:
    """Return a mask for each image, (B, 1, H, W).

    Args:
        mask: (H, W), (1, 1, H, W) or (B, 1, H, W) bool, True where pixels are to be made.
        known: (B, C, H, W).

    Raises:
        ValueError: the mask has another type or size, or nothing is to be made of an image.
    """
    batch, _, height, width = known.shape
    shape = tuple(mask.shape)
    if mask.dtype != torch.bool:
        raise ValueError(f"`mask` is {mask.dtype}, expected torch.bool")
    if shape not in ((height, width), (1, 1, height, width), (batch, 1, height, width)):
        raise ValueError(
            f"`mask` has shape {shape}, expected {(height, width)} and {(batch, 1, height, width)}"
        )
    mask = mask.expand(batch, 1, height, width).to(known.device)
    if not mask.flatten(1).any(dim=1).all():
        raise ValueError("`mask` is False everywhere, expected masks of something to make")
    return mask


def _pull(mask: Tensor, blend_width: int) -> tuple[Tensor, Tensor]:
    """Return how much of the nearest known pixel's difference each takes on, and its number.

    Weights (B, 1, H, W) are 1 at known pixels; numbers are (B, 1, H * W).
    """
    pulls, numbers = [], []
    for hole in mask[:, 0].cpu().numpy():
        nearest, distance = nearest_known(hole)
        pulls.append(1 - torch.from_numpy(distance) / (blend_width + 1))
        numbers.append(torch.from_numpy(nearest).flatten())
    pull = torch.stack(pulls)[:, None].clamp(min=0)
    return pull.to(mask.device), torch.stack(numbers)[:, None].to(mask.device)


def _signals(scheduler: DDIMScheduler, index: int) -> tuple[Tensor, Tensor]:
    """Return alphas_cumprod before and after a step; 1 after the last, as DDIM has it."""
    a = scheduler.alphas_cumprod
    following = scheduler.timesteps[index + 1 : index + 2]
    a_prev = a[following[0]] if len(following) else scheduler.final_alpha_cumprod
    return a[scheduler.timesteps[index]], a_prev


def _renewed(
    x_prev: Tensor, noise: Tensor, fresh: Tensor, a: Tensor, a_prev: Tensor
) -> tuple[Tensor, Tensor]:
    """Go back from x_{t-1} to x_t by the forward process; return x_t and the noise it holds."""
    kept, added = (a / a_prev).sqrt(), (1 - a / a_prev).sqrt()
    noise = (kept * (1 - a_prev).sqrt() * noise + added * fresh) / (1 - a).sqrt()
    return kept * x_prev + added * fresh, noise
