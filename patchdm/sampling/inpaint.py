"""Inpainting: known pixels stay, the others are sampled around them (after RePaint, 2201.09865)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from patchdm.sampling.fill import nearest_known
from patchdm.sampling.solve import Predict, Show, run, whole
from patchdm.sampling.tilings import Step


def inpaint(
    predict: Predict,
    scheduler: DDIMScheduler,
    known: Tensor,
    mask: Tensor,
    x_T: Tensor,
    draw: Callable[[], Tensor],
    *,
    resamplings: int,
    blend_width: int,
    show: Show = iter,
) -> Tensor:
    """Sample what is masked by DDIM, with the known pixels at the noise of every step.

    Differs from RePaint: the noise of the known pixels is that of the canvas, x_T, and is renewed
    with it, where RePaint draws new noise at every step. A pixel that is predicted as it is known
    then follows the path on which it is put back, so both sides of the border fit in noise too;
    with nothing known and one resampling this is plain sampling.

    Args:
        predict: such as a `Denoiser`.
        scheduler: the noise schedule, its steps set.
        known: (B, C, H, W) images in [-1, 1], anything where masked.
        mask: (B, 1, H, W) bool, True where pixels are made.
        x_T: (B, C, H, W) Gaussian noise.
        draw: gives further noise like x_T, once for each step that is repeated.
        resamplings: times each step is made, from renewed noise after the first; more make the
            new content fit the known.
        blend_width: pixels into the mask over which a step takes on the difference between known
            and predicted content at the nearest known pixel, linearly less; 0: a hard border.
        show: as in `run`.

    Returns:
        (B, C, H, W); `known` exactly where not masked.
    """
    pull, nearest = (part.to(known.device) for part in _pull(mask, blend_width))
    mask = mask.to(known.device)
    timesteps, noise, turn = scheduler.timesteps, x_T, 0

    def on_step(x_prev: Tensor, step: Step) -> Tensor:
        nonlocal noise, turn
        a, a_prev = _signals(scheduler, step.index)
        missing = a_prev.sqrt() * known + (1 - a_prev).sqrt() * noise - x_prev
        spread = missing.flatten(2).gather(2, nearest.expand(-1, x_prev.shape[1], -1))
        x_prev = x_prev + pull * spread.view_as(x_prev)
        turn = (turn + 1) % resamplings
        if turn:
            x_prev, noise = _renewed(x_prev, noise, draw(), a, a_prev)
        return x_prev

    x_t = torch.where(mask, x_T, scheduler.add_noise(known, noise, timesteps[:1]))
    advance = whole(predict, scheduler)
    x_0 = run(advance, timesteps, x_t, repeats=resamplings, on_step=on_step, show=show)
    return torch.where(mask, x_0, known)


def checked_mask(mask: Tensor, known: Tensor) -> Tensor:
    """Return a mask for each image, (B, 1, H, W), on the CPU, where its distances are computed.

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
    mask = mask.cpu().expand(batch, 1, height, width)
    if not mask.flatten(1).any(dim=1).all():
        raise ValueError("`mask` is False everywhere, expected masks of something to make")
    return mask


def _pull(mask: Tensor, blend_width: int) -> tuple[Tensor, Tensor]:
    """Return how much of the nearest known pixel's difference each takes on, and its number.

    Weights (B, 1, H, W) are 1 at known pixels; numbers are (B, 1, H * W).
    """
    pulls, numbers = [], []
    for hole in mask[:, 0].numpy():
        nearest, distance = nearest_known(hole)
        pulls.append(1 - torch.from_numpy(distance) / (blend_width + 1))
        numbers.append(torch.from_numpy(nearest).flatten())
    pull = torch.stack(pulls)[:, None].clamp(min=0)
    return pull, torch.stack(numbers)[:, None]


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
