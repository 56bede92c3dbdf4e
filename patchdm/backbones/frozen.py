"""What all backbones are.

They initialise the code table and, in patchdm.metrics, measure samples. Weights are read as plain
tensors (safetensors, or PyTorch files without other objects), never executed.
"""

from __future__ import annotations

import copy
import hashlib
import pickle
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from patchdm.devices import threads
from patchdm.errors import PatchDMError, one_line

PART = 16
"""Fewest images for a thread: from so many on, oneDNN gives each the same bytes in any batch."""
_Features = TypeVar("_Features")
_Module = TypeVar("_Module", bound=nn.Module)


def on_devices(network: _Module, device: torch.device | str) -> dict[torch.device, _Module]:
    """Return a network on a device; for "cuda", copies of it on all GPUs."""
    gpus = torch.cuda.device_count() if str(device) == "cuda" else 0
    if gpus < 2:
        return {torch.device(device): network.to(device)}
    devices = [torch.device("cuda", number) for number in range(gpus)]
    return {each: copy.deepcopy(network).to(each) for each in devices}


def in_parts(
    copies: Mapping[torch.device, Callable[[Tensor], _Features]], images: Tensor
) -> list[_Features]:
    """Apply a network to equal parts of a batch: one a device; of a CPU, as small as may be.

    There a thread takes one after the other, so that memory does not grow with the batch. Threads
    of one small operation would wait for each other, and all for one that another program keeps off
    its core: next to two busy processes that took three times as long.

    Args:
        copies: the network, on each device; it computes without gradients, as all do here.
        images: (B, ..), on the CPU.

    Returns:
        What the network says of each part, in order, on the part's device.
    """
    count, devices = torch.get_num_threads(), list(copies)[: len(images)]
    on_cpu = devices[0].type == "cpu"
    if on_cpu:
        devices *= max(1, len(images) // PART)

    @torch.inference_mode()
    def apply(device: torch.device, part: Tensor) -> _Features:
        return copies[device](part.to(device))

    if len(devices) == 1:
        return [apply(devices[0], images)]
    workers = min(count, len(devices)) if on_cpu else len(devices)
    with threads(max(1, count // workers)), ThreadPoolExecutor(workers) as pool:
        return list(pool.map(apply, devices, images.tensor_split(len(devices))))


def backbone_features(copies: Mapping[torch.device, Backbone], images: np.ndarray) -> np.ndarray:
    """(n, H, W, 3) uint8 -> (n, dim) float32, by a backbone on its devices."""
    parts = in_parts(copies, torch.from_numpy(images).permute(0, 3, 1, 2))
    return torch.cat([part.cpu() for part in parts]).numpy()


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
        """(n, H, W, 3) uint8 -> (n, dim) float32, on the network's device."""
        return backbone_features({next(self.network.parameters()).device: self}, images)


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


def misfit(path: Path, model: str, error: Exception) -> PatchDMError:
    """Return the error of a weights file that a network does not take."""
    return PatchDMError(f"{path}: weights do not fit {model}: {first_line(error)}")


def first_line(error: Exception) -> str:
    """Return an error's message as one line of at most 200 characters."""
    text = one_line(error)
    return text if len(text) <= 200 else text[:197] + "..."
