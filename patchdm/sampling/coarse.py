"""From coarse to fine: a canvas that begins as a small image, enlarged, instead of as noise.

The image decides what is where; the steps that remain after it was noised add detail.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Rows = Callable[[int, int], Tensor]
"""(first pixel row, the one behind the last) -> those rows of a canvas, (1, C, rows, W)."""


def first_step(strength: float, num_steps: int) -> int:
    """Return the solver step that a noised image goes on with; at strength 1 that is the first.

    Raises:
        ValueError: the strength is not in (0, 1].
    """
    if not 0 < strength <= 1:
        raise ValueError(f"`strength` is {strength}, expected a number above 0, at most 1")
    return num_steps - max(1, round(strength * num_steps))


def enlarged(image: Tensor, height: int, width: int) -> Rows:
    """Return an image (1, C, h, w) at another size, of which rows are computed when asked for."""
    across = (torch.arange(width) + 0.5) * 2 / width - 1

    def rows(top: int, bottom: int) -> Tensor:
        down = (torch.arange(top, bottom) + 0.5) * 2 / height - 1
        at = torch.stack([across.expand(len(down), -1), down[:, None].expand(-1, width)], dim=-1)
        found = F.grid_sample(
            image, at[None], mode="bicubic", padding_mode="border", align_corners=False
        )
        return found.clamp(-1, 1)

    return rows


def canvases_of(images: Tensor, batch_size: int, shape: tuple[int, int, int]) -> Tensor:
    """Return images (B, C, h, w) at the size of canvases, (batch_size, *shape).

    Raises:
        ValueError: there are too few or too many, or they have other channels.
    """
    if images.shape[:2] != (batch_size, shape[0]):
        raise ValueError(
            f"`image` has shape {tuple(images.shape)}, expected ({batch_size}, {shape[0]}, h, w)"
        )
    height, width = shape[1:]
    return torch.cat([enlarged(each[None], height, width)(0, height) for each in images.float()])
