"""The feature extractors of all metrics, as torch-fidelity registers them.

Two are ours. `efficientnet-lite0` has its ImageNet weights from a Python package, so it works
offline; its metrics are named after it and never stand next to those of Inception.
`inception-adm` adds the spatial features of sFID to torch-fidelity's Inception, as the reference
evaluator of the field has them (PAPER section 4). CLIP and DINOv2 are torch-fidelity's own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.feature_extractor_clip import MODEL_METADATA as CLIP_MODELS
from torch_fidelity.feature_extractor_clip import FeatureExtractorCLIP
from torch_fidelity.feature_extractor_dinov2 import MODEL_METADATA as DINOV2_MODELS
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.registry import register_feature_extractor
from torch_fidelity.utils import create_feature_extractor

from patchdm.backbones.efficientnet import EFFICIENTNET_LITE0
from patchdm.backbones.frozen import in_parts, on_devices, read_weights, state_hash
from patchdm.backbones.load import load_backbone
from patchdm.errors import PatchDMError, one_line

INCEPTION_ADM = "inception-adm"
_WEIGHTS_PATH = "feature_extractor_weights_path"
"""Option of torch-fidelity's extractors."""
SPATIAL_CHANNELS = 7
"""Of the 192 channels of Inception's mixed_6/conv, those that sFID takes: 17 x 17 x 7 = 2023."""


class EfficientNetLite0Extractor(FeatureExtractorBase):
    """EfficientNet-Lite0's 1280 pooled features for torch-fidelity."""

    def __init__(self, name: str, features_list: list[str], **options: Any) -> None:
        super().__init__(name, features_list)
        path = options.get(_WEIGHTS_PATH)
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


class InceptionADMExtractor(FeatureExtractorBase):
    """Inception-2015-12-05: torch-fidelity's 2048 pooled features, and the 2023 of sFID.

    The spatial features are the first channels of the 1x1 branch of `Mixed_6d`, after its batch
    norm and ReLU, flattened with the channels last as TensorFlow does.
    """

    def __init__(self, name: str, features_list: list[str], **options: Any) -> None:
        super().__init__(name, features_list)
        self.network = FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048"], options.get(_WEIGHTS_PATH), verbose=False
        )
        self.network.to(memory_format=torch.channels_last)  # 1.5 times as fast on a CPU

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) uint8 -> the layers asked for, (B, 2048) or (B, 2023) each."""
        maps: list[Tensor] = []
        branch = self.network.Mixed_6d.branch1x1
        hook = branch.register_forward_hook(lambda _module, _inputs, output: maps.append(output))
        try:
            (pooled,) = self.network(images)
        finally:
            hook.remove()
        spatial = maps[0][:, :SPATIAL_CHANNELS].permute(0, 2, 3, 1).flatten(1)
        layers = {"2048": pooled, "2023": spatial}
        return tuple(layers[name] for name in self.features_list)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        """Return the names of the layers."""
        return "2048", "2023"

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        """Return the layer of FID, KID and precision/recall; there are no logits here."""
        return {"fid": "2048", "kid": "2048", "prc": "2048"}[metric]


register_feature_extractor(EFFICIENTNET_LITE0, EfficientNetLite0Extractor)
register_feature_extractor(INCEPTION_ADM, InceptionADMExtractor)


class _Kind(NamedTuple):
    """What metrics are named after, and the layers: pooled, then spatial where there is one."""

    label: str
    layers: tuple[str, ...]
    local_weights: bool = False


_KINDS = (
    {
        EFFICIENTNET_LITE0: _Kind("EffNetLite0", ("1280",), local_weights=True),
        INCEPTION_ADM: _Kind("Inception", ("2048", "2023"), local_weights=True),
    }
    | {name: _Kind(name.replace("clip", "CLIP"), ("clip",)) for name in CLIP_MODELS}
    | {name: _Kind(name.replace("dinov2", "DINOv2"), ("dinov2",)) for name in DINOV2_MODELS}
)


class Features(NamedTuple):
    """Of n images: `pooled` (n, dim) float32, and `spatial` alike or None."""

    pooled: np.ndarray
    spatial: np.ndarray | None


@dataclass(frozen=True)
class Extractor:
    """A loaded feature extractor."""

    name: str  # as in params.yaml and torch-fidelity's registry
    label: str  # what metrics are named after, e.g. `FID-EffNetLite0`
    resizer: str  # how images come to the network's size
    weights_hash: str  # `state_hash`
    copies: Mapping[torch.device, Callable[[Tensor], tuple[Tensor, ...]]]
    """The network on each of its devices: (B, 3, H, W) uint8 -> layers, pooled first."""

    def features(self, images: np.ndarray) -> Features:
        """(n, H, W, 3) uint8 -> features on the CPU.

        Raises:
            PatchDMError: a feature is no finite number; the weights are damaged.
        """
        parts = in_parts(self.copies, torch.from_numpy(images).permute(0, 3, 1, 2))
        layers = [
            torch.cat([part.cpu() for part in layer]).numpy() for layer in zip(*parts, strict=True)
        ]
        if not all(np.isfinite(layer).all() for layer in layers):
            raise PatchDMError(
                f"extractor {self.name!r}: found features that are no finite numbers, its weights "
                "are damaged"
            )
        return Features(layers[0], layers[1] if len(layers) > 1 else None)


def load_extractor(name: str, weights: Path | None, device: torch.device | str) -> Extractor:
    """Return a feature extractor.

    Args:
        name: `efficientnet-lite0`, `inception-adm`, or one of CLIP or DINOv2 in torch-fidelity's
            registry, e.g. `clip-vit-b-32`, `dinov2-vit-b-14`.
        weights: local file; None takes what the package carries or downloads.
        device: where it computes; "cuda": on all GPUs.

    Raises:
        PatchDMError: unknown name, or weights that are missing, unreadable or do not fit.
    """
    if name not in _KINDS:
        raise PatchDMError(f"extractor {name!r}: unknown, expected {', '.join(_KINDS)}")
    kind = _KINDS[name]
    if weights is not None and not kind.local_weights:
        raise PatchDMError(
            f"extractor {name!r}: found weights {weights}, expected null: it loads its own"
        )
    network = _create(name, kind.layers, weights)
    weights_hash, resizer = _weights_hash_and_resizer(network)
    return Extractor(name, kind.label, resizer, weights_hash, on_devices(network, device))


def _weights_hash_and_resizer(network: FeatureExtractorBase) -> tuple[str, str]:
    if isinstance(network, EfficientNetLite0Extractor):  # its own hash is of unfolded weights
        return network.backbone.weights_hash, "bilinear 224x224, antialiased"
    if isinstance(network, InceptionADMExtractor):
        network = network.network
    clip = isinstance(network, FeatureExtractorCLIP)
    side = network.resolution if clip else network.INPUT_IMAGE_SIZE
    return state_hash(network.state_dict()), f"bilinear {side}x{side} of TensorFlow 1"


def _create(name: str, layers: tuple[str, ...], weights: Path | None) -> FeatureExtractorBase:
    with tempfile.TemporaryDirectory() as folder:
        path = None
        if weights is not None:
            # torch-fidelity unpickles its weights file, so it gets a copy of bare tensors.
            path = f"{folder}/weights.pth"
            torch.save(read_weights(weights), path)
        try:
            return create_feature_extractor(
                name, list(layers), cuda=False, verbose=False, **{_WEIGHTS_PATH: path}
            )
        except (OSError, RuntimeError) as error:
            if weights is not None:
                raise PatchDMError(f"{weights}: weights do not fit the extractor {name}") from None
            raise PatchDMError(
                f"extractor {name!r}: weights cannot be downloaded, set a local weights file "
                f"({one_line(error)})"
            ) from None
