"""What sampling is made of beside the denoiser: seeds, codes, and the tiling of each step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from patchdm.models.latent import LatentMLP
from patchdm.models.unet import PatchUNet
from patchdm.sampling.denoise import PLAIN, Tiling


def generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """Return one CPU generator per seed, so that image i depends on seed i alone."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


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


def tiling_of_step(unet: PatchUNet, tiling: str, index: int, num_steps: int) -> Tiling:
    """Return which patches predict step `index` of `num_steps`, as the network was trained.

    What alternates ends with the shifted patches, which tile the image.

    Args:
        unet: the network; its config names the collage mode.
        tiling: as in `PatchDMPipeline`; of feature collage, the other modes have their own.
        index: number of the step, from 0.
        num_steps: steps in all.

    Raises:
        ValueError: the tiling is unknown.
    """
    shifted_turn = (num_steps - index) % 2 == 1
    half = unet.config.patch_size // 2
    match unet.config.collage:
        case "none":
            return half, half
        case "pixel-fixed":
            return (half, half) if shifted_turn else PLAIN
        case "pixel-random":
            generator = torch.Generator().manual_seed(index)  # equal for all images
            y, x = torch.randint(1 - half, half + 1, (2,), generator=generator).tolist()
            return y, x
    tilings: dict[str, Tiling] = {
        "shifted": "shifted",
        "blend": "blend",
        "alternate": "shifted" if shifted_turn else PLAIN,
    }
    if tiling not in tilings:
        raise ValueError(f"tiling is {tiling!r}, allowed are {', '.join(tilings)}")
    return tilings[tiling]
