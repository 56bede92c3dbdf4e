"""Positions of patches beyond the training size."""

from __future__ import annotations

from typing import Any

from patchdm.choices import Positions, check_choice


def grid_shape(config: Any, positions: str) -> tuple[int, int] | None:
    """Return the patch rows and columns that positions are rescaled to; None: they count on.

    Args:
        config: of the network.
        positions: a name of `patchdm.choices.Positions`.

    Raises:
        ValueError: the name is unknown, or the network does not know its training size.
    """
    check_choice("positions", positions, Positions)
    if positions == "extrapolate":
        return None
    if config.sample_size is None:
        raise ValueError(f"`positions` is {positions!r}, but `unet` has no sample_size")
    height, width = config.sample_size
    return height // config.patch_size, width // config.patch_size
