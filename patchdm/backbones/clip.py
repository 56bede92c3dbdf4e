"""Image encoders of open_clip."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import open_clip
import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor, nn

from patchdm.backbones.frozen import Backbone, first_line, misfit, state_hash
from patchdm.errors import PatchDMError


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


def open_clip_backbone(name: str, weights: Path | None) -> Backbone:
    """Return the image encoder of `open_clip:MODEL/PRETRAINED`."""
    model, _, tag = name.removeprefix("open_clip:").partition("/")
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
        raise misfit(path, model, error) from None
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
            f"({first_line(error)})"
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
