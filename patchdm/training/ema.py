"""The weight average that is evaluated (PAPER section 1)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

_Module = TypeVar("_Module", bound=nn.Module)


def unsharded(tensor: Tensor) -> Tensor:
    """Return a tensor whole; of one with shards, all processes must ask together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


class Ema:
    """An exponential moving average of parameters, shard by shard where they are sharded."""

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self.averages = [parameter.detach().clone() for parameter in parameters]

    @torch.no_grad()
    def update(self, parameters: Iterable[Tensor], decay: float) -> None:
        """Move every average by 1 - decay towards its parameter."""
        torch._foreach_lerp_(self.averages, [p.detach() for p in parameters], 1 - decay)

    def whole(self) -> list[Tensor]:
        """Return the averages unsharded; with shards, all processes must ask together."""
        return [unsharded(average) for average in self.averages]

    @torch.no_grad()
    def copy_to(self, module: _Module) -> _Module:
        """Give a module, which has the shape of the averaged one, the averages; return it."""
        for parameter, average in zip(module.parameters(), self.whole(), strict=True):
            parameter.copy_(average)
        return module

    @torch.no_grad()
    def load(self, averages: Sequence[Tensor]) -> None:
        """Take over averages that `whole` returned."""
        for average, saved in zip(self.averages, averages, strict=True):
            if isinstance(average, DTensor):
                mesh, placements = average.device_mesh, average.placements
                average.copy_(distribute_tensor(saved, mesh, placements))
            else:
                average.copy_(saved)
