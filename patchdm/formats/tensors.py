"""Images as tensors in [-1, 1]: a module of its own, since not every stage needs torch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from patchdm.formats.images import Pixels


def to_tensor(images: Pixels) -> Tensor:
    """Turn uint8 (n, H, W, 3) into float32 (n, 3, H, W) in [-1, 1]."""
    return to_float(torch.from_numpy(np.ascontiguousarray(images)))


def to_float(images: Tensor) -> Tensor:
    """Turn uint8 (n, H, W, 3) into float32 (n, 3, H, W) in [-1, 1], on the same device."""
    tensor = images.permute(0, 3, 1, 2)
    return tensor.to(torch.float32, memory_format=torch.contiguous_format).div_(127.5).sub_(1)


def to_uint8(images: Tensor) -> Pixels:
    """Turn float (n, 3, H, W) in [-1, 1] into uint8 (n, H, W, 3): clamped, rounded to nearest."""
    levels = ((images.detach().float() + 1) * 127.5).round().clamp(0, 255)
    return levels.to("cpu", torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
