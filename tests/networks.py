"""Small networks whose every weight is at work."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from patchdm.models import PatchUNet


def small_unet(**changes: Any) -> PatchUNet:
    """Return a U-Net for patches of 8 x 8, in evaluation mode."""
    sizes = {
        "patch_size": 8,
        "channels": (8, 16),
        "res_blocks": 1,
        "attention_levels": (),
        "norm_groups": 4,
        "dropout": 0.0,
        "embed_dim": 16,
        "time_channels": 8,
        "position_channels": 8,
        "cond_dim": 6,
    }
    torch.manual_seed(0)
    return awake(PatchUNet(**sizes | changes).eval())


def awake(model: nn.Module) -> nn.Module:
    """Move every weight away from the zeros that residual branches start as."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return model
