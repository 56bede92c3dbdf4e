"""What the image model trains on: U-Net and global code under the window loss."""

from __future__ import annotations

import numpy as np
import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn

from patchdm.config import Train
from patchdm.data.images import to_tensor
from patchdm.data.patch_store import PatchStore
from patchdm.diffusion.loss import Window, min_snr_weight, window_losses
from patchdm.models.semantic import CodeTable, SemanticEncoder
from patchdm.models.unet import PatchUNet
from patchdm.training.draws import draw_rows, step_generator
from patchdm.training.loop import Draw


class ImageTraining(nn.Module):
    """U-Net and code as one module whose forward is the loss (PAPER section 1, Training step)."""

    def __init__(
        self,
        unet: PatchUNet,
        code: CodeTable | SemanticEncoder | None,
        scheduler: DDIMScheduler,
        *,
        min_snr_gamma: float | None = None,
    ) -> None:
        super().__init__()
        self.unet = unet
        self.code = code
        self.scheduler = scheduler
        self.min_snr_gamma = min_snr_gamma

    def forward(
        self,
        pixels: Tensor,
        inside: Tensor,
        corner: Tensor,
        offset: Tensor,
        code_input: Tensor,
        keep_code: Tensor,
        t: Tensor,
        noise: Tensor,
    ) -> dict[str, Tensor]:
        """Return the losses of a batch of windows: "loss" and its summands, named "loss_..".

        "loss" weighs the time steps by min-SNR where `min_snr_gamma` is given, its summands not.

        Args:
            pixels: (B, 3, 2p, 2p) windows in [-1, 1].
            inside: (B, 1, 2p, 2p), 1 on the image.
            corner: (B, 2) grid position of each window, NaN where it is dropped.
            offset: (B, 2) int, where in its window pixel-random cuts a patch.
            code_input: (B,) rows of the code table, or (B, 3, H, W) images for the encoder.
            keep_code: (B, 1), 0 where the code is dropped.
            t: (B,) time steps.
            noise: (B, 3, 2p, 2p).
        """
        cond = None if self.code is None else self.code(code_input) * keep_code
        losses = window_losses(
            self.unet,
            Window(pixels, inside, corner, offset),
            t,
            cond,
            noise=noise,
            scheduler=self.scheduler,
        )
        means = {f"loss_{name}": loss.mean() for name, loss in losses.items()}
        total = torch.stack(list(losses.values())).sum(dim=0)
        if self.min_snr_gamma is not None:
            total = total * min_snr_weight(self.scheduler, t, self.min_snr_gamma)
        return {"loss": total.mean(), **means}


def window_draw(
    store: PatchStore,
    train: Train,
    *,
    patch_size: int,
    num_timesteps: int,
    whole_images: bool,
    seed: int,
) -> Draw:
    """Return the draw of a step for `ImageTraining.forward`, a function of (seed, step).

    Args:
        store: the patch store; its training images are drawn.
        train: batch size, kind of windows, probabilities of dropping.
        patch_size: p.
        num_timesteps: t is uniform in 0 .. num_timesteps - 1.
        whole_images: also read whole images, which the joint encoder needs.
        seed: root of all draws.
    """
    p = patch_size
    rows, cols = store.height // p, store.width // p
    images = store.rows("train")
    batch = train.batch_size

    def draw(step: int) -> tuple[Tensor, ...]:
        chosen = images[draw_rows(len(images), batch, seed, step)]
        generator = step_generator(seed, step)
        count = batch if train.windows == "image" else 1
        row = torch.randint(rows, (count,), generator=generator).expand(batch)
        col = torch.randint(cols, (count,), generator=generator).expand(batch)
        t = torch.randint(num_timesteps, (batch,), generator=generator)
        noise = torch.randn(batch, 3, 2 * p, 2 * p, generator=generator)
        keep_code = torch.rand(batch, 1, generator=generator) >= train.code_dropout
        drop_place = torch.rand(batch, 1, generator=generator) < train.position_dropout
        offset = torch.randint(p + 1, (batch, 2), generator=generator)
        pixels, inside = store.windows(chosen, row.numpy(), col.numpy(), p)
        corner = torch.stack([row, col], dim=1).float().masked_fill(drop_place, torch.nan)
        code_input = to_tensor(store.images(chosen)) if whole_images else torch.from_numpy(chosen)
        return (
            to_tensor(pixels),
            torch.from_numpy(inside[:, None].astype(np.float32)),
            corner,
            offset,
            code_input,
            keep_code.float(),
            t,
            noise,
        )

    return draw
