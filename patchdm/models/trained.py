"""Reading the folders that the training stages write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler

from patchdm.errors import PatchDMError, one_line
from patchdm.models.latent import LatentMLP
from patchdm.models.semantic import CodeTable, SemanticEncoder
from patchdm.models.unet import PatchUNet


def read_trained(image_model: Path, latent_model: Path | None) -> dict[str, Any]:
    """Return the parts of a `PatchDMPipeline` by name; without a latent model, None is given.

    Raises:
        PatchDMError: a folder is missing or of another kind.
    """
    places: dict[str, tuple[Any, Path]] = {
        "unet": (PatchUNet, image_model / "unet"),
        "scheduler": (DDIMScheduler, image_model / "scheduler"),
    }
    for name, kind in (("encoder", SemanticEncoder), ("code_table", CodeTable)):
        if (image_model / name).is_dir():
            places[name] = kind, image_model / name
    if latent_model is not None:
        places["latent"] = LatentMLP, latent_model / "latent"
        places["latent_scheduler"] = DDIMScheduler, latent_model / "scheduler"
    for _, folder in places.values():  # diffusers would ask its hub for what is missing
        if not folder.is_dir():
            raise PatchDMError(f"no readable model: {folder}: not found, expected a folder")
    try:
        read = {
            name: kind.from_pretrained(folder, use_safetensors=True)
            for name, (kind, folder) in places.items()
        }
    except (OSError, ValueError) as error:
        raise PatchDMError(f"no readable model: {one_line(error)}") from None
    read["unet"].to(memory_format=torch.channels_last)  # the faster layout
    return read
