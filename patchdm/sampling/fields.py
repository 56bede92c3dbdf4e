"""A field of codes: a canvas whose global code changes from place to place.

Codes lie on a lattice over the canvas, (B, rows, columns, code_dim), the first in its first corner
and the last in its last one; along an axis that closes on itself, the one behind the last is the
first. Every patch is told the code at its middle, linear in both axes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from patchdm.grid import PatchGrid
from patchdm.sampling.fill import nearest_known

Field = Tensor
"""(B, rows, columns, code_dim)."""


def codes_at(field: Field, at: Tensor, grid: PatchGrid, wrap: str = "none") -> Tensor:
    """Return the codes of patches.

    Args:
        field: the lattice of codes.
        at: (P, 2) rows and columns of the patches' middles, in patches from the canvas' corner.
        grid: of the canvas.
        wrap: a name of `patchdm.choices.Wrap`.

    Returns:
        (B, P, code_dim).
    """
    ends = zip(("y", "x"), (grid.rows, grid.cols), field.shape[1:3], at.T, strict=True)
    (y0, y1, down), (x0, x1, right) = (
        _between(places / side, count, closed=axis in wrap) for axis, side, count, places in ends
    )
    down, right = (share[:, None].to(field) for share in (down, right))
    above, below = (torch.lerp(field[:, y, x0], field[:, y, x1], right) for y in (y0, y1))
    return torch.lerp(above, below, down)


def drifting(code: Tensor, drawn: Tensor, hole: Tensor, *, patch_size: int, reach: int) -> Field:
    """Return a field that is one code at what is known, and others the further away from it.

    Args:
        code: (B, code_dim), of what is known.
        drawn: (B, rows, columns, code_dim), the other codes on a lattice over the canvas.
        hole: (B, 1, H, W) bool on the CPU, True where pixels are unknown.
        patch_size: p; the field has a code at every corner of a patch.
        reach: pixels from what is known, from where on a code is that of `drawn` alone.

    Returns:
        (B, H / p + 1, W / p + 1, code_dim).
    """
    away = torch.stack([torch.from_numpy(nearest_known(each)[1]) for each in hole[:, 0].numpy()])
    down, across = (
        (torch.arange(side // patch_size + 1) * patch_size).clamp(max=side - 1)
        for side in hole.shape[-2:]
    )
    share = (away[:, down][:, :, across] / reach).clamp(max=1).to(drawn)
    others = F.interpolate(
        drawn.movedim(-1, 1), share.shape[1:], mode="bilinear", align_corners=True
    )
    return torch.lerp(code[:, None, None], others.movedim(1, -1), share[..., None])


def _between(share: Tensor, count: int, *, closed: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return the codes before and behind places at 0 .. 1 of an axis, and how far between."""
    if closed:
        place = share * count
        first = place.floor()
        before = first.long() % count
        return before, (before + 1) % count, place - first
    place = share.clamp(0, 1) * (count - 1)
    before = place.floor().long().clamp(max=max(count - 2, 0))
    return before, (before + 1).clamp(max=count - 1), place - before
