"""Checks of the arguments of sampling; each raises a ValueError that names the argument."""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any

from torch import Tensor

from patchdm.models.unet import PatchUNet


def check_count(name: str, value: Any, least: int = 1) -> None:
    """Raise a ValueError if an argument is no whole number from `least` on."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"`{name}` is {value!r}, expected a whole number of {least} or more")


def check_guidance(unet: PatchUNet, scale: float) -> None:
    """Raise a ValueError if a guidance scale is out of range, or the network cannot be guided."""
    if not 0 <= scale < math.inf:
        raise ValueError(f"`guidance_scale` is {scale}, expected 0 or more")
    if scale and unet.config.unconditional is False:
        raise ValueError(
            f"`guidance_scale` is {scale}, expected 0: the network was not trained without its "
            "conditions too (train.code_dropout and train.position_dropout above 0)"
        )


def check_shapes(**tensors: tuple[Tensor | None, tuple[int, ...]]) -> None:
    """Raise a ValueError if a tensor that is given is empty, or not of its expected shape."""
    for name, (tensor, expected) in tensors.items():
        if tensor is not None and (tensor.shape != expected or not tensor.numel()):
            raise ValueError(f"`{name}` has shape {tuple(tensor.shape)}, expected {expected}")
