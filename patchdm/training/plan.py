"""The plan of a training: its length and its schedules, in items seen."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from patchdm.config import Latent, Train


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long to train and when to do what, all in items (images, codes) seen.

    The keys of the same names in params.yaml explain the values.
    """

    seed: int
    items_seen: int
    batch_size: int
    micro_batch_size: int
    warmup_items: int
    lr_decay: str
    ema_profile: str
    ema_decay: float
    ema_std: float | None
    grad_clip: float
    log_every: int
    checkpoint_every: int

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole training; the last may see more than is left."""
        return math.ceil(self.items_seen / self.batch_size)

    @property
    def micro_batches(self) -> int:
        """Micro-batches of a step, over all processes."""
        return self.batch_size // self.micro_batch_size

    def items(self, micro_batch: int) -> range:
        """Return the items of a micro-batch, counted from the start of the training."""
        first = micro_batch * self.micro_batch_size
        return range(first, first + self.micro_batch_size)

    def due(self, every: int, step: int) -> bool:
        """Whether `step` steps passed another `every` items seen, or ended the training."""
        seen = step * self.batch_size
        return step == self.steps or seen // every > (seen - self.batch_size) // every

    def lr_factor(self, step: int) -> float:
        """Learning rate of a step over its full value: linear warm-up, then constant or cosine."""
        seen = (step + 1) * self.batch_size
        warmup = min(1.0, seen / self.warmup_items) if self.warmup_items else 1.0
        if self.lr_decay == "cosine":
            return warmup * 0.5 * (1 + math.cos(math.pi * min(1.0, seen / self.items_seen)))
        return warmup

    def ema_decay_at(self, step: int) -> float:
        """Decay of the weight average after a step, the first being 0.

        "power" is the profile t^gamma of 2312.02696 (equation 4): it has the same shape, and its
        width the same share of the training, at every length of the training.
        """
        match self.ema_profile:
            case "warmup":
                return min(self.ema_decay, (1 + step) / (10 + step))
            case "power" if self.ema_std is not None:
                return (1 - 1 / (step + 1)) ** (power_of(self.ema_std) + 1)
            case _:
                return self.ema_decay


def plan_of(config: Train | Latent, **others: Any) -> Plan:
    """Return the plan of a section of params.yaml.

    Args:
        config: has most fields of the plan by the same names.
        **others: the other fields, or other values.
    """
    names = (field.name for field in fields(Plan))
    return Plan(**{name: getattr(config, name) for name in names if name not in others}, **others)


@functools.cache
def power_of(std: float) -> float:
    """Return gamma of the density t^gamma on 0 .. 1 with a standard deviation.

    Its variance is (gamma + 1) / ((gamma + 2)^2 (gamma + 3)), which falls with gamma from 1/12.
    """
    # (gamma + 2)^2 (gamma + 3) = (gamma + 1) / variance, as a polynomial in gamma.
    precision = std**-2
    roots = np.roots([1.0, 7.0, 16.0 - precision, 12.0 - precision])
    return float(roots.real.max())
