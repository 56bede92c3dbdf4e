"""Outpainting: a given image on a larger canvas, whose other pixels are to be made."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Canvas:
    """Images on a canvas whose sides are multiples of the patch size.

    Attributes:
        known: (B, C, H, W) the canvas, zero around the images.
        mask: (B, 1, H, W) bool, True around the images.
        rows, cols: the part of the canvas that was asked for; the surplus is cut off.
    """

    known: Tensor
    mask: Tensor
    rows: slice
    cols: slice


def canvas_around(
    images: Tensor, *, left: int, top: int, right: int, bottom: int, patch_size: int
) -> Canvas:
    """Lay images on the smallest canvas that holds them and the margins.

    An image starts at a patch border, as those of the training do, where the surplus allows it.

    Args:
        images: (B, C, h, w), of any size.
        left, top, right, bottom: pixels to be made on each side.
        patch_size: p.

    Raises:
        ValueError: a margin is negative, or all are 0.
    """
    margins = {"left": left, "top": top, "right": right, "bottom": bottom}
    for name, margin in margins.items():
        if margin < 0:
            raise ValueError(f"`{name}` is {margin}, expected at least 0")
    if not any(margins.values()):
        raise ValueError("`left`, `top`, `right` and `bottom` are 0, expected one above 0")
    height, width = images.shape[-2:]
    above, below = _surplus(top, height, bottom, patch_size)
    before, after = _surplus(left, width, right, patch_size)
    around = (before + left, right + after, above + top, bottom + below)
    return Canvas(
        known=F.pad(images, around),
        mask=F.pad(torch.zeros_like(images[:, :1], dtype=torch.bool), around, value=True),
        rows=slice(above, above + top + height + bottom),
        cols=slice(before, before + left + width + right),
    )


def _surplus(margin: int, size: int, margin_after: int, patch_size: int) -> tuple[int, int]:
    """Return the pixels to add before and after, so that all fit whole patches."""
    surplus = -(margin + size + margin_after) % patch_size
    before = -margin % patch_size  # puts the image on a patch border
    if before > surplus:
        before = 0
    return before, surplus - before
