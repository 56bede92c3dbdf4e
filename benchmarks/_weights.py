"""The weights of a `PatchUNet` as other implementations name and lay them out."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from benchmarks import straightforward
from patchdm.models import PatchUNet
from patchdm.official import joined
from patchdm.official.names import modulations, unet_names

OURS = re.compile(r"\bblocks\.|encoder\.(?=stem|middle)|decoder\.(?=head)")
"""What names of `PatchUNet` have more than those of the straightforward network."""


def straightforward_like(unet: PatchUNet) -> straightforward.UNet:
    """Return the straightforward network with the weights of the library's, in evaluation mode."""
    net = straightforward.UNet(**unet.config).eval()
    net.load_state_dict(renamed(net, unet.state_dict()))
    return net


def renamed(net: straightforward.UNet, library: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors of a `PatchUNet`'s parameters, by name, as those of its straightforward twin.

    There each residual block has its own rows of what lies side by side in the library.
    """
    found = {OURS.sub("", name): tensor for name, tensor in library.items()}
    starts = [0, 0]
    for name, part in net.named_modules():
        if isinstance(part, straightforward.Modulation):
            half, width = int(name.startswith("decoder")), part.cond.out_features
            rows = slice(starts[half], starts[half] + width)
            starts[half] += width
            for leaf in ("weight", "bias"):
                found[f"{name}.cond.{leaf}"] = library[f"cond_project.{half}.{leaf}"][rows]
            columns = [library[f"{of}_project.{half}.weight"] for of in ("time", "position")]
            parts = [torch.cat(columns, dim=1), library[f"position_project.{half}.bias"]]
            for leaf, whole in zip(("weight", "bias"), parts, strict=True):
                scale, shift = whole.chunk(2)
                found[f"{name}.embed.{leaf}"] = torch.cat([scale[rows], shift[rows]])
    return {name: found[name] for name in net.state_dict()}


def authors_weights(unet: PatchUNet) -> dict[str, Tensor]:
    """Return the weights by the authors' names; their 1x1 convolutions are linear layers here."""
    own = unet.state_dict()
    weights = {key: joined(parts).detach() for key, parts in modulations(unet).items()}
    for ours, key in unet_names(unet):
        for leaf in ("weight", "bias"):
            if f"{ours}.{leaf}" in own:
                weights[f"{key}.{leaf}"] = own[f"{ours}.{leaf}"]
    return weights
