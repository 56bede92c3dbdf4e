"""Which colours an image has where, next to what a backbone sees in it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 12


class WithThumbnail(nn.Module):
    """The features of a backbone, then the mean colours of 12 x 12 parts, in [-1, 1]."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> (B, dim + 432)."""
        colours = F.adaptive_avg_pool2d(images.float(), SIDE).flatten(1) / 127.5 - 1
        return torch.cat([self.backbone(images), colours], dim=1)
