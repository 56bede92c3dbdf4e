"""Backbones by their names in params.yaml."""

from __future__ import annotations

from pathlib import Path

import torch

from patchdm.backbones.efficientnet import EFFICIENTNET_LITE0, efficientnet_lite0
from patchdm.backbones.frozen import Backbone
from patchdm.backbones.thumbnail import WithThumbnail
from patchdm.errors import PatchDMError

OPEN_CLIP = "open_clip:"
AND_THUMBNAIL = "+thumbnail"


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
        network = load_backbone(name.removesuffix(AND_THUMBNAIL), weights, "cpu")
        # A backbone tries its network out on the CPU.
        return Backbone(name, WithThumbnail(network), network.weights_hash).to(device)
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
