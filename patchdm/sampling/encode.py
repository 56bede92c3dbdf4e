"""The global code of an image that the model was not trained on (PAPER, Applications)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from diffusers import DDIMScheduler
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from patchdm.diffusion.loss import Window, cut_windows, window_losses
from patchdm.formats.images import Pixels
from patchdm.formats.tensors import to_uint8
from patchdm.grid import PatchGrid
from patchdm.models.semantic import CodeTable, SemanticEncoder
from patchdm.models.unet import PatchUNet
from patchdm.sampling.fill import replicate

if TYPE_CHECKING:  # see `patchdm.diffusion.schedules`
    from patchdm.config import Applications


@dataclass(frozen=True)
class CodeFit:
    """How the code of an image is found where a model has a table of codes.

    Attributes:
        features: of images (n, H, W, 3) uint8, (n, dim) float32, by the backbone that the table
            was started from.
        num_steps: optimiser steps; 0 leaves the code where the features put it.
        windows: windows, time steps and noises drawn for each image a step.
        learning_rate: of Adam.
        show: wraps the optimiser steps, as a progress bar does.
    """

    features: Callable[[Pixels], NDArray[np.float32]]
    num_steps: int
    windows: int
    learning_rate: float
    show: Callable[[Sequence[int]], Iterable[int]] = iter

    @classmethod
    def of(cls, features: Callable[[Pixels], NDArray[np.float32]], config: Applications) -> Self:
        """Return the fit that the section `applications` of params.yaml describes."""
        return cls(features, config.code_steps, config.code_windows, config.code_learning_rate)


@torch.enable_grad()
def code_of_image(
    code: CodeTable | SemanticEncoder,
    unet: PatchUNet,
    scheduler: DDIMScheduler,
    x0: Tensor,
    *,
    mask: Tensor,
    fit: CodeFit | None,
    generators: Sequence[torch.Generator | None],
) -> Tensor:
    """Return the codes of images: what the encoder says, or what explains them best.

    Unknown pixels get the value of the nearest known one. Without an encoder, codes start from
    backbone features as those of the table did, and are optimised (Adam, float32) under the
    training loss of the known pixels of their images, by the network as it is: one in bfloat16
    moves them 40 times less than other draws do (docs/results.md).

    Args:
        code: the model's encoder or code table.
        unet: the network, in evaluation mode.
        scheduler: the noise schedule and prediction type it was trained with.
        x0: (B, C, H, W) images in [-1, 1], sides multiples of the patch size.
        mask: (B, 1, H, W) bool, True where a pixel is unknown.
        fit: how; for a table.
        generators: one per image, on the CPU; all draws for an image come from its own;
            None: PyTorch's.

    Returns:
        (B, code_dim).

    Raises:
        ValueError: `fit` is missing.
    """
    filled = replicate(x0, mask)
    if isinstance(code, SemanticEncoder):
        with torch.no_grad():
            return code(filled)
    if fit is None:
        raise ValueError(f"`fit` is None, a code table needs features of {code.config.backbone}")
    features = torch.from_numpy(fit.features(to_uint8(filled))).to(x0.device, code.dtype)
    codes = code.start(features).float().requires_grad_()
    optimizer = torch.optim.Adam([codes], lr=fit.learning_rate)
    planes = torch.cat([filled, (~mask).to(filled)], dim=1).repeat_interleave(fit.windows, dim=0)
    for _ in fit.show(range(fit.num_steps)):
        each = codes.repeat_interleave(fit.windows, dim=0)
        # Offloading puts other memory into a weight after its use: the gradient keeps the first.
        with saved_tensors_hooks(torch.detach, lambda saved: saved):
            loss = _random_losses(unet, scheduler, planes, each, generators).sum()
        (codes.grad,) = torch.autograd.grad(loss, codes)
        optimizer.step()
    return codes.detach()


def _random_losses(
    unet: PatchUNet,
    scheduler: DDIMScheduler,
    planes: Tensor,
    cond: Tensor,
    generators: Sequence[torch.Generator | None],
) -> Tensor:
    """The training losses (n,) of random windows at random time steps, where pixels are known.

    Args:
        planes: (n, C + 1, H, W) images, and 1 where they are known; equally many in turn for
            each generator.
        cond: (n, code_dim).
    """
    n, channels, height, width = planes.shape
    p = unet.config.patch_size
    grid = PatchGrid.of(height, width, p)
    windows = n // len(generators)

    def draw(end: int, *shape: int) -> Tensor:
        draws = [torch.randint(end, (windows, *shape), generator=g) for g in generators]
        return torch.cat(draws).to(planes.device)

    corner = torch.cat([draw(grid.rows, 1), draw(grid.cols, 1)], dim=1)
    cut = cut_windows(planes, corner, draw(p + 1, 2), p)
    t = draw(scheduler.config.num_train_timesteps)
    size = (windows, channels - 1, 2 * p, 2 * p)
    noise = torch.cat([torch.randn(size, generator=g) for g in generators]).to(planes.device)
    window = Window(cut.x0[:, :-1], cut.inside, cut.corner, cut.offset)
    losses = window_losses(
        unet, window, t, cond, noise=noise, scheduler=scheduler, known=cut.x0[:, -1:]
    )
    return torch.stack(list(losses.values())).sum(dim=0)
