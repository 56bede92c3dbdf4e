"""Sampling: noise of a seed -> code -> image. Image i depends on its generator alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from diffusers import DDIMScheduler
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from patchdm.errors import PatchDMError
from patchdm.models.latent import LatentMLP
from patchdm.models.unet import PatchUNet
from patchdm.sampling.denoise import PLAIN, Tiling, predict_eps


def generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """Return one CPU generator per seed; draw x_T from it first, then the code's noise."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@torch.inference_mode()
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


@torch.inference_mode()
def sample_images(
    unet: PatchUNet,
    scheduler: DDIMScheduler,
    x_T: Tensor,
    cond: Tensor | None,
    *,
    num_steps: int,
    guidance_scale: float = 0.0,
    tiling: str = "shifted",
    rows_per_chunk: int | None = None,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Sample images with DDIM, eta = 0, x0 clipped and eps recomputed (PAPER, Sampling).

    Args:
        unet: the network.
        scheduler: from `image_scheduler`.
        x_T: (B, C, H, W) Gaussian noise.
        cond: (B, cond_dim) global codes, or None.
        num_steps: solver steps.
        guidance_scale: w of classifier-free guidance, 0 is none.
        tiling: for feature collage "shifted" or "blend" as in `predict_eps`, or "alternate":
            shifted and plain patches in turn. Networks of other modes sample as they trained.
        rows_per_chunk: as in `predict_eps`.
        on_step: called with (steps done, x_t) after each step.

    Returns:
        (B, C, H, W) images in [-1, 1].
    """
    x_t = x_T
    scheduler.set_timesteps(num_steps)
    for index, t in enumerate(scheduler.timesteps):
        eps = predict_eps(
            unet,
            x_t,
            t.expand(len(x_t)).to(x_t.device),
            cond,
            guidance_scale=guidance_scale,
            rows_per_chunk=rows_per_chunk,
            tiling=tiling_of_step(unet, tiling, index, num_steps),
        )
        x_t = scheduler.step(eps, t, x_t, use_clipped_model_output=True).prev_sample
        if on_step:
            on_step(index + 1, x_t)
    return x_t.clamp(-1, 1)


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """A trained model and how to sample from it; called with seeds, gives images.

    Attributes:
        unet, scheduler: the image model.
        latent, latent_scheduler: where codes come from; None for a model without global code.
        num_steps, latent_steps: DDIM steps of image and code.
        guidance_scale, tiling: as in `sample_images`.
        device: where to compute; noise is always drawn on the CPU.
    """

    unet: PatchUNet
    scheduler: DDIMScheduler
    latent: LatentMLP | None
    latent_scheduler: DDIMScheduler | None
    num_steps: int
    latent_steps: int
    guidance_scale: float
    tiling: str
    device: str

    @classmethod
    def load(
        cls,
        image_model: Path,
        latent_model: Path | None,
        *,
        num_steps: int,
        latent_steps: int,
        guidance_scale: float,
        tiling: str,
        device: str,
    ) -> Self:
        """Read the folders that the training stages write.

        Raises:
            PatchDMError: a folder is missing or of another kind.
        """
        try:
            unet = PatchUNet.from_pretrained(image_model / "unet").eval().to(device)
            scheduler = DDIMScheduler.from_pretrained(image_model / "scheduler")
            latent = latent_scheduler = None
            if latent_model is not None:
                latent = LatentMLP.from_pretrained(latent_model / "latent").eval().to(device)
                latent_scheduler = DDIMScheduler.from_pretrained(latent_model / "scheduler")
        except (OSError, ValueError) as error:
            raise PatchDMError(f"no readable model: {' '.join(str(error).split())}") from None
        return cls(
            unet=unet.to(memory_format=torch.channels_last),  # the faster layout
            scheduler=scheduler,
            latent=latent,
            latent_scheduler=latent_scheduler,
            num_steps=num_steps,
            latent_steps=latent_steps,
            guidance_scale=guidance_scale,
            tiling=tiling,
            device=device,
        )

    def __call__(self, seeds: Sequence[int], height: int, width: int) -> Tensor:
        """Return one image a seed, (n, C, height, width) in [-1, 1]."""
        sources = generators(seeds)
        x_T = gaussian((self.unet.config.in_channels, height, width), sources).to(self.device)
        cond = None
        if self.latent is not None:
            z_T = gaussian((self.latent.config.code_dim,), sources).to(self.device)
            cond = sample_codes(
                self.latent, self.latent_scheduler, z_T, num_steps=self.latent_steps
            )
        return sample_images(
            self.unet,
            self.scheduler,
            x_T,
            cond,
            num_steps=self.num_steps,
            guidance_scale=self.guidance_scale,
            tiling=self.tiling,
        )


def tiling_of_step(unet: PatchUNet, tiling: str, index: int, num_steps: int) -> Tiling:
    """Return which patches predict step `index` of `num_steps`, as the network was trained.

    What alternates ends with the shifted patches, which tile the image.

    Args:
        unet: the network; its config names the collage mode.
        tiling: as in `sample_images`; a choice for feature collage alone.
        index: number of the step, from 0.
        num_steps: steps in all.

    Raises:
        ValueError: the tiling is unknown, or not "shifted" for a network without feature collage.
    """
    mode = unet.config.collage
    if mode != "feature" and tiling != "shifted":
        raise ValueError(f"tiling is {tiling!r}, allowed with collage {mode!r} is 'shifted'")
    shifted_turn = (num_steps - index) % 2 == 1
    half = unet.config.patch_size // 2
    match mode:
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


def gaussian(shape: Sequence[int], sources: list[torch.Generator]) -> Tensor:
    """Draw (len(sources), *shape), each row from its own generator."""
    return randn_tensor((len(sources), *shape), generator=sources)
