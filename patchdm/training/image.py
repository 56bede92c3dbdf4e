"""What the image model trains on: U-Net and global code under the window loss."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler
from numpy.typing import NDArray
from torch import Tensor, nn

from patchdm.config import Diffusion, Model, Train
from patchdm.diffusion.loss import Window, min_snr_weight, window_losses
from patchdm.diffusion.schedules import image_scheduler
from patchdm.errors import PatchDMError
from patchdm.formats.patch_store import PatchStore
from patchdm.formats.tensors import to_float
from patchdm.formats.vectors import read_vectors
from patchdm.models.build import build_code, build_unet
from patchdm.models.semantic import CodeTable, SemanticEncoder
from patchdm.models.unet import PatchUNet
from patchdm.training.batches import Batch, Draw
from patchdm.training.draws import draw_rows, generator
from patchdm.training.windows import read_windows

_CHANCES = 7
"""Uniform numbers that an item takes."""


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
        image: Tensor,
        whole: Tensor | None,
        keep_code: Tensor,
        t: Tensor,
        noise: Tensor,
    ) -> dict[str, Tensor]:
        """Return the losses (B,) of windows: "loss", its summands, and its share of the steps.

        "loss" weighs the time steps by min-SNR where `min_snr_gamma` is given. Its summands
        "loss_shifted" and so on do not, nor do "loss_q1" to "loss_q4": the sum of the summands
        at a window whose time step lies in that quarter of 0 .. T - 1, else NaN.

        Args:
            pixels: (B, 2p, 2p, 3) uint8, windows as stored: a fourth of the bytes to move.
            inside: (B, 1, 2p, 2p), 1 on the image.
            corner: (B, 2) grid position of each window, NaN where it is dropped.
            offset: (B, 2) int, where in its window pixel-random cuts a patch.
            image: (B,) rows of the patch store, which are those of the code table.
            whole: (B, H, W, 3) uint8, whole images for the encoder, None without one.
            keep_code: (B, 1), 0 where the code is dropped.
            t: (B,) time steps.
            noise: (B, 3, 2p, 2p).
        """
        cond = None
        if self.code is not None:
            cond = self.code(image if whole is None else to_float(whole)) * keep_code
        losses = window_losses(
            self.unet,
            Window(to_float(pixels), inside, corner, offset),
            t,
            cond,
            noise=noise,
            scheduler=self.scheduler,
        )
        error = total = torch.stack(list(losses.values())).sum(dim=0)
        if self.min_snr_gamma is not None:
            total = error * min_snr_weight(self.scheduler, t, self.min_snr_gamma)
        summands = {f"loss_{name}": loss for name, loss in losses.items()}
        return {"loss": total} | summands | self._by_quarter(error, t)

    def _by_quarter(self, error: Tensor, t: Tensor) -> dict[str, Tensor]:
        quarter = 4 * t // self.scheduler.config.num_train_timesteps
        return {f"loss_q{q + 1}": error.where(quarter == q, torch.nan) for q in range(4)}


def image_training(
    model: Model, train: Train, diffusion: Diffusion, store: PatchStore, features: Path
) -> ImageTraining:
    """Return what is trained, of weights that torch's global generator draws.

    Args:
        model, train, diffusion: sections of params.yaml.
        store: of the training images.
        features: file of their backbone features, from which a code table starts.

    Raises:
        PatchDMError: the features are missing, damaged, or of other images.
    """
    unet = build_unet(model, (store.height, store.width), train)
    code = _code(model, store, features)
    gamma = train.min_snr_gamma
    module = ImageTraining(unet, code, image_scheduler(diffusion), min_snr_gamma=gamma)
    if train.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    if train.channels_last:
        module.to(memory_format=torch.channels_last)
    return module


def image_optimizer(module: ImageTraining, train: Train) -> torch.optim.Optimizer:
    """Return Adam with the learning rates of network and code."""
    groups = [{"params": list(module.unet.parameters()), "lr": train.learning_rate}]
    if module.code is not None:
        groups.append({"params": list(module.code.parameters()), "lr": train.code_learning_rate})
    return torch.optim.Adam(groups, fused=True)


def save_models(average: ImageTraining, folder: Path) -> None:
    """Write the networks of an `ImageTraining` and their noise schedule, a folder each."""
    average.unet.save_pretrained(folder / "unet")
    average.scheduler.save_pretrained(folder / "scheduler")
    if average.code is not None:
        kind = "code_table" if isinstance(average.code, CodeTable) else "encoder"
        average.code.save_pretrained(folder / kind)


def _code(model: Model, store: PatchStore, path: Path) -> CodeTable | SemanticEncoder | None:
    count = len(store.rows("train"))
    if model.code != "table":
        return build_code(model, count)
    _, features, metadata = read_vectors(path)
    if len(features) != count:
        raise PatchDMError(
            f"{path}: found {len(features)} images, expected the {count} training images of "
            f"{store.folder}"
        )
    return CodeTable.from_features(features, model.code_dim, metadata["backbone"])


def window_draw(
    model: Model, train: Train, diffusion: Diffusion, store: PatchStore, *, seed: int
) -> Draw:
    """Return the draw for `ImageTraining.forward`, a function of the seed and the items.

    Windows, time steps (uniform) and noises are drawn of the store's training images; whole images
    too, if a joint encoder needs them.
    """
    # A partial of a function with a name: where processes are not forked, it is sent to them.
    return functools.partial(_draw, model, train, diffusion, store, store.rows("train"), seed)


def _draw(
    model: Model,
    train: Train,
    diffusion: Diffusion,
    store: PatchStore,
    images: NDArray[np.int64],
    seed: int,
    items: range,
) -> Batch:
    """Return the batch of some items, from rows of the store."""
    p = model.patch_size
    chosen = images[draw_rows(len(images), items, seed)]
    chances = torch.empty(len(items), _CHANCES, dtype=torch.float64)
    noise = torch.empty(len(items), 3, 2 * p, 2 * p)
    for item, chance, eps in zip(items, chances, noise, strict=True):
        source = generator(seed, item)
        chance.uniform_(generator=source)
        eps.normal_(generator=source)
        if train.windows == "batch":
            chance[:2].uniform_(generator=generator(seed, item // train.batch_size, 2))
    u_row, u_col, u_t, u_y, u_x, u_code, u_place = chances.unbind(1)
    row, col = (u_row * (store.height // p)).long(), (u_col * (store.width // p)).long()
    drop_place = u_place[:, None] < train.position_dropout
    pixels, inside = read_windows(store, chosen, row.numpy(), col.numpy(), p)
    return {
        "pixels": torch.from_numpy(pixels),
        "inside": torch.from_numpy(inside[:, None].astype(np.float32)),
        "corner": torch.stack([row, col], dim=1).float().masked_fill(drop_place, torch.nan),
        "offset": (torch.stack([u_y, u_x], dim=1) * (p + 1)).long(),
        "image": torch.from_numpy(chosen),
        "whole": torch.from_numpy(store.images(chosen)) if model.code == "encoder" else None,
        "keep_code": (u_code[:, None] >= train.code_dropout).float(),
        "t": (u_t * diffusion.num_train_timesteps).long(),
        "noise": noise,
    }
