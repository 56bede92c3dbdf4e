"""Sheets of samples that show how a training goes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from patchdm.formats.images import Pixels, contact_sheet, save_png
from patchdm.formats.patch_store import PatchStore
from patchdm.formats.tensors import to_tensor, to_uint8
from patchdm.grid import PatchGrid
from patchdm.models.semantic import CodeTable
from patchdm.sampling.denoise import Denoiser
from patchdm.sampling.solve import generators, solve
from patchdm.training.image import ImageTraining

IMAGES = 8
STEPS = 20


def sheet_writer(
    store: PatchStore, folder: Path, show: Callable[[int, Pixels], None]
) -> Callable[[int, ImageTraining], None]:
    """Return the action that samples a few training codes from equal noise at every call.

    It gets the items seen and the average of an `ImageTraining`.

    Args:
        store: of the training images.
        folder: where sheets go, named by the items seen.
        show: called with the items seen and the sheet, (h, w, 3) uint8.
    """
    folder.mkdir(exist_ok=True)
    images = store.photographs("train")
    chosen = images[np.linspace(0, len(images) - 1, IMAGES).astype(int)]

    def write(seen: int, average: ImageTraining) -> None:
        table = isinstance(average.code, CodeTable)
        inputs = torch.from_numpy(chosen) if table else to_tensor(store.images(chosen))
        samples = sample_sheet(average, inputs, (store.height, store.width), num_steps=STEPS)
        sheet = contact_sheet(to_uint8(samples), columns=4)
        save_png(folder / f"{seen:09d}.png", sheet)
        show(seen, sheet)

    return write


@torch.no_grad()
def sample_sheet(
    average: ImageTraining, images: Tensor, size: tuple[int, int], *, num_steps: int
) -> Tensor:
    """Sample the codes of training images from equal noise at every call.

    Args:
        average: the networks and their noise schedule.
        images: (IMAGES,) numbers for a code table, (IMAGES, 3, H, W) in [-1, 1] for an encoder.
        size: (height, width).
        num_steps: solver steps.

    Returns:
        (IMAGES, C, height, width), about [-1, 1], on the device of the networks.
    """
    device, config = next(average.parameters()).device, average.unet.config
    cond = None if average.code is None else average.code(images.to(device))
    shape = (config.in_channels, *size)
    x_T = torch.stack([torch.randn(shape, generator=g) for g in generators(range(IMAGES))])
    grid = PatchGrid.of(*size, config.patch_size)
    denoiser = Denoiser(average.unet, grid, cond, rows_per_chunk=1)  # next to the training
    return solve(denoiser, average.scheduler, x_T.to(device), num_steps=num_steps)
