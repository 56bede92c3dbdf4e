"""Tilings: which patches predict each step.

A new one is a name in `patchdm.choices.Tiling`, and a case of `patches_of_step`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from patchdm.choices import Tiling, check_choice

Patches = str | tuple[int, int]
"""Patches that predict a canvas: "shifted", by feature collage (the paper); "blend", by collages on
four grids; or (y, x), patches on their own from there on."""

BLENDED = 0.25
"""Share of the steps, the last ones, in which the tiling `blend` blends. Earlier steps decide what
is where; most of a seam that stays comes from the last ones."""

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

    The fixed collage of pixels alternates, and ends with the patches that tile the image.

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
    blends = step.count - step.index <= math.ceil(BLENDED * step.count)
    return "blend" if tiling == "blend" and blends else "shifted"


def blend_weight(patches: int, patch_size: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the weight (patches * p,) along an axis of the grid that tiles the image.

    It falls from 1 in the middle of a patch to 0 at the border to the next one, where the grid that
    lies half a patch further in, whose weight is the rest to 1, has the middle of its patches. The
    outer halves of the first and of the last patch belong to the first grid alone.
    """
    half = patch_size // 2
    ramp = (torch.arange(patch_size, device=device) + 0.5) / half
    weight = torch.minimum(ramp, 2 - ramp).repeat(patches)
    weight[:half] = weight[-half:] = 1
    return weight


def checked_patches(patches: Any) -> Patches:
    """Return patches, or raise a ValueError if they are none."""
    if isinstance(patches, tuple) or patches in get_args(Tiling):
        return patches
    raise ValueError(
        f"tiling is {patches!r}, expected {', '.join(get_args(Tiling))} or an offset (y, x)"
    )
