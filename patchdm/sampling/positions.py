"""Positions that the network is told of patches, also of those beyond the training size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import torch
from torch import Tensor

from patchdm.choices import Wrap, checked_positions
from patchdm.grid import PatchGrid

Placing = Callable[[Tensor], Tensor]
"""(P, 2) rows and columns on a canvas, in patches -> those that the network is told."""


def placing(config: Any, positions: str, grid: PatchGrid, wrap: str = "none") -> Placing:
    """Return how patches of a canvas are told where they are.

    "extrapolate" counts on beyond the training size. "rescale" spreads the positions of training
    over the canvas. "reflect" goes through them forth and back, so that every patch has a place
    that training knew. An axis that closes on itself is always reflected, a whole number of times.

    Args:
        config: of the network.
        positions: a name of `patchdm.choices.Positions`, or two of them, "ROWS,COLUMNS".
        grid: of the canvas.
        wrap: a name of `patchdm.choices.Wrap`.

    Raises:
        ValueError: a name is unknown, or the network does not know its training size.
    """
    names = checked_positions(positions)
    names = [
        "close" if axis in wrap else name for axis, name in zip(("y", "x"), names, strict=True)
    ]
    if any(name != "extrapolate" for name in names) and config.sample_size is None:
        told = "wrap" if "close" in names else "positions"
        value = wrap if told == "wrap" else positions
        raise ValueError(f"`{told}` is {value!r}, but `unet` has no sample_size")
    sides = config.sample_size or (0, 0)
    axes = [
        _axis(name, side // config.patch_size, count)
        for name, side, count in zip(names, sides, (grid.rows, grid.cols), strict=True)
    ]

    def place(at: Tensor) -> Tensor:
        return torch.stack([axis(at[:, n]) for n, axis in enumerate(axes)], dim=1)

    return place


def checked_wrap(wrap: str, collage: str) -> str:
    """Return along which axes a canvas closes on itself, or raise a ValueError."""
    if wrap not in get_args(Wrap):
        raise ValueError(f"`wrap` is {wrap!r}, expected {', '.join(get_args(Wrap))}")
    if wrap != "none" and collage != "feature":
        raise ValueError(
            f"`wrap` is {wrap!r}, expected 'none' with the collage {collage!r} of the network"
        )
    return wrap


def _axis(name: str, trained: int, count: int) -> Callable[[Tensor], Tensor]:
    """Return the positions along an axis of `count` patches, of which training had `trained`."""
    match name:
        case "rescale":
            return lambda at: at * (trained / count)
        case "reflect":
            return lambda at: _reflected(at, trained)
        case "close":
            rounds = max(1, round(count / (2 * trained)))
            return lambda at: _reflected(at * (2 * trained * rounds / count), trained)
    return lambda at: at


def _reflected(at: Tensor, trained: int) -> Tensor:
    """Go from 0 to `trained` and back, again and again."""
    return trained - (at % (2 * trained) - trained).abs()
