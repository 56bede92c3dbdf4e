"""Tilings: which patches predict each step.

A new one is a name in `patchdm.choices.Tiling`, and here a mean of `MEANS` or a case of
`patches_of_step`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from patchdm.choices import Tiling, check_choice
from patchdm.grid import PatchGrid

Patches = str | tuple[int, int]
"""Patches that predict a canvas: "shifted", by feature collage (the paper); a name of `MEANS`,
which counts the plain padded patches too; or (y, x), patches on their own from there on."""

PLAIN = (0, 0)
"""The padded patches on their own."""


@dataclass(frozen=True)
class Step:
    """One step of a solver.

    Attributes:
        t: () its time.
        index: its number, from 0.
        count: number of steps in all.
    """

    t: Tensor
    index: int
    count: int


def patches_of_step(collage: str, patch_size: int, tiling: str, step: Step) -> Patches:
    """Return which patches predict a step, as the network was trained.

    What alternates ends with the shifted patches, which tile the image.

    Args:
        collage: the collage mode of the network; those of the ablation have tilings of their own.
        patch_size: p.
        tiling: of feature collage: a name of `patchdm.choices.Tiling`.
        step: the step.

    Raises:
        ValueError: the tiling is unknown.
    """
    half, shifted_turn = patch_size // 2, (step.count - step.index) % 2 == 1
    match collage:
        case "none":
            return half, half
        case "pixel-fixed":
            return (half, half) if shifted_turn else PLAIN
        case "pixel-random":
            generator = torch.Generator().manual_seed(step.index)  # equal for all images
            y, x = torch.randint(1 - half, half + 1, (2,), generator=generator).tolist()
            return y, x
    check_choice("tiling", tiling, Tiling)
    if tiling == "alternate":
        return "shifted" if shifted_turn else PLAIN
    return tiling


def average(shifted: Tensor, plain: Tensor, grid: PatchGrid) -> Tensor:
    """Return the mean of both predictions (B, C, H, W) of a grid."""
    del grid
    return (shifted + plain) / 2


def blend(shifted: Tensor, plain: Tensor, grid: PatchGrid) -> Tensor:
    """Return the mean of both predictions (B, C, H, W), each counting least at its own borders."""
    weight = blend_weight(grid, shifted.device).to(shifted.dtype)
    return weight * shifted + (1 - weight) * plain


@lru_cache(maxsize=8)
def blend_weight(grid: PatchGrid, device: torch.device | str = "cpu") -> Tensor:
    """Return the weight (H, W) of the shifted prediction, from 0 to 1.

    With h the distance to the next shifted border over p/2 per axis, the shifted patch counts
    h(y) h(x) and the plain one (1 - h(y)) (1 - h(x)), normalised.
    """
    p = grid.patch_size
    ramp = (torch.arange(p, device=device) + 0.5) / (p / 2)
    hat = torch.minimum(ramp, 2 - ramp)
    y, x = hat.repeat(grid.rows)[:, None], hat.repeat(grid.cols)[None]
    shifted, plain = y * x, (1 - y) * (1 - x)
    return shifted / (shifted + plain)


MEANS: Mapping[str, Callable[[Tensor, Tensor, PatchGrid], Tensor]] = {
    "average": average,
    "blend": blend,
}
"""Tiling -> (shifted, plain, grid) -> mean of both predictions."""


def checked_patches(patches: Any) -> Patches:
    """Return patches, or raise a ValueError if they are none."""
    if isinstance(patches, tuple) or patches in ("shifted", *MEANS):
        return patches
    raise ValueError(
        f"tiling is {patches!r}, expected shifted, {', '.join(MEANS)} or an offset (y, x)"
    )
