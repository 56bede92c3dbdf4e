"""The feature extractors of FID and KID, as torch-fidelity registers them.

`efficientnet-lite0` is ours: its ImageNet weights come in a Python package, so it works
offline. Its metrics are named after it and never stand beside those of Inception.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.registry import register_feature_extractor
from torch_fidelity.utils import create_feature_extractor

from patchdm.errors import PatchDMError
from patchdm.models.backbones import EFFICIENTNET_LITE0, load_backbone, read_weights, state_hash


class EfficientNetLite0Extractor(FeatureExtractorBase):
    """EfficientNet-Lite0's 1280 pooled features for torch-fidelity."""

    def __init__(
        self,
        name: str,
        features_list: list[str],
        feature_extractor_weights_path: str | None = None,
        **_: Any,
    ) -> None:
        super().__init__(name, features_list)
        path = feature_extractor_weights_path
        self.backbone = load_backbone(EFFICIENTNET_LITE0, Path(path) if path else None, "cpu")

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) uint8 -> ((B, 1280),)."""
        return (self.backbone(images),)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        """Return the names of the layers."""
        return ("1280",)

    @staticmethod
    def get_default_feature_layer_for_metric(_metric: str) -> str:
        """Return the layer of every metric."""
        return "1280"

    @staticmethod
    def can_be_compiled() -> bool:
        """Say that torch.compile works."""
        return True

    @staticmethod
    def get_dummy_input_for_compile() -> Tensor:
        """Return an image to compile for."""
        return torch.zeros(1, 3, 8, 8, dtype=torch.uint8)


register_feature_extractor(EFFICIENTNET_LITE0, EfficientNetLite0Extractor)


@dataclass(frozen=True)
class _Kind:
    """What a table must say of an extractor, and the layer FID takes."""

    label: str
    layer: str
    resizer: str


_KINDS = {
    EFFICIENTNET_LITE0: _Kind("EffNetLite0", "1280", "bilinear 224x224, antialiased"),
    "inception-v3-compat": _Kind("InceptionV3", "2048", "bilinear 299x299 of TensorFlow 1"),
}


@dataclass(frozen=True)
class Extractor:
    """A loaded feature extractor.

    Attributes:
        name: as in params.yaml and torch-fidelity's registry.
        label: what metrics are named after, e.g. `FID-EffNetLite0`.
        resizer: how images come to the network's size.
        weights_hash: `state_hash` of the weights.
    """

    name: str
    label: str
    resizer: str
    weights_hash: str
    network: FeatureExtractorBase

    @torch.inference_mode()
    def features(self, images: np.ndarray) -> Tensor:
        """(n, H, W, 3) uint8 -> (n, dim) float32 on the CPU, in one pass."""
        device = next(self.network.parameters()).device
        batch = torch.from_numpy(images).permute(0, 3, 1, 2).to(device)
        return self.network(batch)[0].cpu()


def load_extractor(name: str, weights: Path | None, device: torch.device | str) -> Extractor:
    """Return a feature extractor.

    Args:
        name: `efficientnet-lite0` or `inception-v3-compat`.
        weights: local file; None takes what the package carries or downloads.
        device: where it computes.

    Raises:
        PatchDMError: unknown name, or weights that are missing, unreadable or do not fit.
    """
    if name not in _KINDS:
        raise PatchDMError(f"extractor {name!r}: unknown, allowed are {', '.join(_KINDS)}")
    kind = _KINDS[name]
    network = _create(name, kind.layer, weights)
    if isinstance(network, EfficientNetLite0Extractor):
        weights_hash = network.backbone.weights_hash
    else:
        weights_hash = state_hash(network.state_dict())
    return Extractor(name, kind.label, kind.resizer, weights_hash, network.to(device))


def _create(name: str, layer: str, weights: Path | None) -> FeatureExtractorBase:
    with tempfile.TemporaryDirectory() as folder:
        path = None
        if weights is not None:
            # torch-fidelity unpickles its weights file, so it gets a copy of bare tensors.
            path = f"{folder}/weights.pth"
            torch.save(read_weights(weights), path)
        try:
            return create_feature_extractor(
                name, [layer], cuda=False, verbose=False, feature_extractor_weights_path=path
            )
        except OSError as error:
            raise PatchDMError(
                f"extractor {name!r}: weights cannot be downloaded, set a local weights file "
                f"({error})"
            ) from None
        except RuntimeError:
            raise PatchDMError(f"{weights}: weights do not fit the extractor {name}") from None
