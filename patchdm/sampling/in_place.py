"""Sampling where the canvas lies, such as in a mapped file: images larger than memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from patchdm.grid import PatchGrid
from patchdm.models.unet import PatchUNet
from patchdm.sampling.denoise import Denoiser
from patchdm.sampling.solve import tiling_of_step


@torch.no_grad()
def solve_in_place(
    unet: PatchUNet,
    scheduler: DDIMScheduler,
    x: Tensor,
    cond: Tensor | None,
    *,
    num_steps: int,
    tiling: str = "shifted",
    guidance_scale: float = 0.0,
    grid_shape: tuple[int, int] | None = None,
    rows_per_chunk: int = 1,
    cols_per_chunk: int | None = None,
    eps: Tensor | None = None,
    on_step: Callable[[int], None] | None = None,
) -> None:
    """Turn x_T into x_0, band by band of patch rows, by DDIM; other solvers keep whole canvases.

    A band of x_t is overwritten by its next step as soon as the patches below have been encoded.
    Memory does not grow with the height; nor with the width, where columns are worked on in chunks
    and `eps` lies in a file too.

    Args:
        unet: the network, in evaluation mode.
        scheduler: the noise schedule; its time steps are set here.
        x: (B, C, H, W) Gaussian noise, float32; e.g. `torch.from_file(path, shared=True, ..)`.
        cond: (B, cond_dim) global codes, or None.
        num_steps: DDIM steps.
        tiling: as in `PatchDMPipeline`.
        guidance_scale: w; 0: no guidance.
        grid_shape, rows_per_chunk, cols_per_chunk: as in `predict_eps`.
        eps: like x, what a step predicts; needed with `cols_per_chunk` alone, since the columns
            beside a chunk still need its x_t.
        on_step: called with the number of each step after it.

    Raises:
        ValueError: the size does not fit, or there is no place for the prediction.
    """
    if (cols_per_chunk is None) != (eps is None):
        raise ValueError("eps and cols_per_chunk go together: found one of them")
    height, width = x.shape[-2:]
    grid = PatchGrid.of(height, width, unet.config.patch_size)
    denoiser = Denoiser(
        unet,
        grid,
        cond,
        rows_per_chunk=rows_per_chunk,
        cols_per_chunk=cols_per_chunk,
        grid_shape=grid_shape,
    )
    scheduler.set_timesteps(num_steps)
    for index, t in enumerate(scheduler.timesteps):
        options: dict[str, Any] = {
            "guidance_scale": guidance_scale,
            "tiling": tiling_of_step(unet, tiling, index, len(scheduler.timesteps)),
        }
        times = t.expand(len(x)).to(unet.device)
        if eps is None:
            bands = denoiser.bands(x, times, **options)
        else:
            denoiser(x, times, **options, out=eps)
            p = grid.patch_size
            bands = (
                (slice(top, top + p), eps[..., top : top + p, :]) for top in range(0, height, p)
            )
        for rows, predicted in bands:
            x_t = x[..., rows, :].to(predicted.device)
            step = scheduler.step(predicted, t, x_t, use_clipped_model_output=True)
            x[..., rows, :] = step.prev_sample
        if on_step is not None:
            on_step(index)
