"""Backbones by their names in params.yaml."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from patchdm.backbones.efficientnet import EFFICIENTNET_LITE0, efficientnet_lite0
from patchdm.backbones.frozen import Backbone
from patchdm.backbones.thumbnail import THUMBNAIL, thumbnail
from patchdm.errors import PatchDMError

OPEN_CLIP = "open_clip:"
AND_THUMBNAIL = f"+{THUMBNAIL}"


class _Joined(nn.Module):
    """Several backbones, whose features lie side by side."""

    def __init__(self, backbones: Sequence[Backbone]) -> None:
        super().__init__()
        self.backbones = nn.ModuleList(backbones)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> (B, sum of their widths)."""
        return torch.cat([backbone(images) for backbone in self.backbones], dim=1)


def load_backbone(name: str, weights: Path | None, device: torch.device | str) -> Backbone:
    """Return a frozen backbone.

    Args:
        name: `efficientnet-lite0`, `open_clip:MODEL/PRETRAINED`, or either with `+thumbnail`, which
            adds a thumbnail's colours to its features.
        weights: local file; None: the package contains or downloads them.

    Raises:
        PatchDMError: unknown name, or weights that are missing, unreadable or do not fit.
    """
    if name.endswith(AND_THUMBNAIL):
        network = load_backbone(name.removesuffix(AND_THUMBNAIL), weights, device)
        joined = _Joined([network, thumbnail().to(device)])
        return Backbone(name, joined, network.weights_hash)
    if name == EFFICIENTNET_LITE0:
        return efficientnet_lite0(weights).to(device)
    if name.startswith(OPEN_CLIP):
        # Loaded where it is asked for: torchvision and timm take seconds.
        from patchdm.backbones.clip import open_clip_backbone  # noqa: PLC0415

        return open_clip_backbone(name, weights).to(device)
    expected = (
        f"{EFFICIENTNET_LITE0} and {OPEN_CLIP}MODEL/PRETRAINED, with or without {AND_THUMBNAIL}"
    )
    raise PatchDMError(f"backbone {name!r}: unknown, expected {expected}")
