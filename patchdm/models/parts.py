"""The networks of a run by name, as shapes without values, to compute their cost."""

from __future__ import annotations

from typing import Any

import torch

from patchdm.config import Latent, Model
from patchdm.models.build import build_code, build_latent, build_unet


def meta_networks(model: Model, latent: Latent, training_images: int) -> dict[str, Any]:
    """Return "U-Net", "table" or "encoder", and "latent model", on torch's meta device.

    Without a global code only the U-Net is returned.
    """
    with torch.device("meta"):
        networks: dict[str, Any] = {"U-Net": build_unet(model)}
        if code := build_code(model, training_images):
            networks[model.code] = code
            networks["latent model"] = build_latent(latent, model.code_dim)
    return networks


def count_parameters(networks: dict[str, Any]) -> dict[str, int]:
    """Return the number of parameters of each network."""
    return {name: network.num_parameters() for name, network in networks.items()}
