"""Sizes that commands and the studio refuse, and those that they warn of."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from patchdm.errors import PatchDMError
from patchdm.memory import total_memory

FAR = 2
"""Times the training height at which horizons stack; widths repeat at its square."""


def check_patch(option: str, width: int, height: int, p: int) -> None:
    """Refuse an image with a side below the patch size p.

    Raises:
        PatchDMError: it names the option that asks for it.
    """
    if min(width, height) < p:
        raise PatchDMError(f"{option}: found {width}x{height}, expected {p}x{p}, a patch, or more")


def is_far(height: int, width: int, trained: Sequence[int] | None) -> bool:
    """Say whether a size is so far beyond the training's (height, width) that one code repeats."""
    return trained is not None and (height >= FAR * trained[0] or width >= FAR**2 * trained[1])


def memory_of(device: torch.device) -> float | None:
    """Return the bytes that a device has in all; None: it does not say."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    return total_memory()
