"""The golden numbers and the network they belong to."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tests.golden.weights import golden_weight

HERE = Path(__file__).parent
PATCH_SIZE = 16


def golden_shapes() -> dict[str, tuple[int, ...]]:
    """Return the authors' parameter names and shapes."""
    names = json.loads((HERE / "official-small.json").read_text())["state_dict"]
    return {name: tuple(shape) for name, shape in names.items()}


def golden_state() -> dict[str, Tensor]:
    """Return the state dict of the authors' network."""
    return {name: golden_weight(name, shape) for name, shape in golden_shapes().items()}


def golden_numbers() -> dict[str, Tensor]:
    """Return inputs and outputs by key."""
    with np.load(HERE / "official-small.npz") as file:
        return {key: torch.from_numpy(np.asarray(file[key])) for key in file.files}
