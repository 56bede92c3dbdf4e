"""A training of milliseconds: a small network with dropout, fitted to random draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from patchdm.training.batches import Batch
from patchdm.training.checkpoint import Checkpoints
from patchdm.training.draws import generator
from patchdm.training.loop import Hooks, fit, make_accelerator
from patchdm.training.plan import Plan

BATCH = 4


class Toy(nn.Module):
    """Predict the sum of the inputs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.SiLU(), nn.Dropout(0.5), nn.Linear(8, 1))

    def forward(self, x: Tensor, **_: Tensor) -> dict[str, Tensor]:
        return {"loss": (self.layers(x)[:, 0] - x.sum(dim=1)).square()}


def toy_draw(items: range) -> Batch:
    """Numbers for each item, which is its own image, at its own time step."""
    x = torch.stack([torch.randn(3, generator=generator(0, item)) for item in items])
    numbers = torch.tensor(items)
    return {"x": x, "t": numbers + 100, "image": numbers}


def toy_plan(**changes: Any) -> Plan:
    """Twenty steps, the last of them short of images."""
    values = {
        "seed": 0,
        "items_seen": 79,
        "batch_size": BATCH,
        "micro_batch_size": BATCH,
        "warmup_items": 20,
        "lr_decay": "cosine",
        "ema_profile": "warmup",
        "ema_decay": 0.9,
        "ema_std": None,
        "grad_clip": 1.0,
        "log_every": 12,
        "checkpoint_every": 20,
    }
    return Plan(**values | changes)


@dataclass
class Training:
    """One process's attempt at a training, and all it said."""

    folder: Path
    plan: Plan = field(default_factory=toy_plan)
    draw: Callable[[range], Batch] = toy_draw
    workers: int = 0
    stop_after: int | None = None
    every: list[tuple[int, Callable[[int, nn.Module], None]]] = field(default_factory=list)
    module: Toy = field(default_factory=Toy)
    reported: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    progress: list[int] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    accelerator: Accelerator | None = None

    def run(self) -> dict[str, Tensor]:
        """Return raw and averaged weights."""
        average = fit(
            self.module,
            torch.optim.Adam(self.module.parameters(), lr=1e-2),
            self.draw,
            self.plan,
            accelerator=self.accelerator or make_accelerator(self.plan, "no"),
            checkpoints=Checkpoints(self.folder, self.warnings.append),
            hooks=Hooks(
                report=lambda seen, metrics: self.reported.append((seen, metrics)),
                progress=self.progress.append,
                stop_requested=lambda: len(self.progress) + 1 == self.stop_after,
                every=self.every,
            ),
            workers=self.workers,
        )
        raw = {f"raw.{name}": value for name, value in self.module.state_dict().items()}
        return raw | average.state_dict()
