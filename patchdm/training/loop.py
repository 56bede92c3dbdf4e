"""The training loop: draw, backward, step, average; report, checkpoint, resume."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn

from patchdm.errors import PatchDMError
from patchdm.training.checkpoint import Checkpoints
from patchdm.training.draws import seed_dropout


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long to train and when to do what, all in items (images, codes) seen."""

    seed: int
    items_seen: int
    batch_size: int
    warmup_items: int
    lr_decay: str
    ema_decay: float
    ema_warmup: bool
    grad_clip: float
    log_every: int
    checkpoint_every: int

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole training; the last may see more than is left."""
        return math.ceil(self.items_seen / self.batch_size)

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
        """Decay of the weight average after a step."""
        return min(self.ema_decay, (1 + step) / (10 + step)) if self.ema_warmup else self.ema_decay


class Ema:
    """An exponential moving average of a module's parameters, itself a module that evaluates."""

    def __init__(self, module: nn.Module) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, module: nn.Module, decay: float) -> None:
        """Move every averaged parameter by 1 - decay towards the module's."""
        averages: list[Tensor] = list(self.module.parameters())
        torch._foreach_lerp_(averages, [p.detach() for p in module.parameters()], 1 - decay)


Draw = Callable[[int], tuple[Any, ...]]
"""step -> positional arguments of the module's forward, on any device."""


@dataclass(kw_only=True)
class Hooks:
    """What the caller does while the loop runs."""

    report: Callable[[int, dict[str, float]], None]
    """(items seen, metrics) at every logged step; a resumed training first repeats its past."""
    progress: Callable[[int], None]
    """After every step, with the items seen."""
    stop_requested: Callable[[], bool]
    """Asked after every step; True saves a checkpoint and ends in PatchDMError."""
    every: list[tuple[int, Callable[[int, nn.Module], None]]] = field(default_factory=list)
    """(items, action): action(items seen, EMA module) whenever so many items have been seen."""


@dataclass(kw_only=True)
class _Progress:
    """All that changes from step to step: what a checkpoint holds."""

    module: nn.Module
    ema: Ema
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler | None
    """Of the loss, under fp16."""
    step: int = 0
    history: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    recent: list[dict[str, Tensor]] = field(default_factory=list)
    """Losses since the last report."""

    def state(self) -> dict[str, Any]:
        return {
            "module": self.module.state_dict(),
            "ema": self.ema.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict() if self.scaler else None,
            "step": self.step,
            "history": self.history,
            "recent": self.recent,
        }

    def load(self, state: dict[str, Any]) -> None:
        self.module.load_state_dict(state["module"])
        self.ema.module.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scaler:
            self.scaler.load_state_dict(state["scaler"])
        self.step, self.history, self.recent = state["step"], state["history"], state["recent"]


def fit(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    draw: Draw,
    plan: Plan,
    *,
    accelerator: Accelerator,
    checkpoints: Checkpoints,
    hooks: Hooks,
) -> nn.Module:
    """Train a module and return its weight average.

    Args:
        module: forward(*draw(step)) returns named scalar losses, of which "loss" is minimised.
        optimizer: over the module's parameters, at full learning rates.
        draw: the batch of a step, a function of the step alone.
        plan: budget and schedules.
        accelerator: devices and precision.
        checkpoints: where progress is kept; the newest is resumed.
        hooks: what to tell whom.

    Returns:
        The EMA module, on the CPU, in evaluation mode.

    Raises:
        PatchDMError: the loss or its gradient is not finite, or a stop was requested.
    """
    rates = [group["lr"] for group in optimizer.param_groups]
    at = _Progress(
        module=module,
        ema=Ema(module.to(accelerator.device)),
        optimizer=optimizer,
        scaler=accelerator.scaler,
    )
    saved = checkpoints.load()
    if saved is not None:
        at.load(saved)
        for seen, metrics in at.history:
            hooks.report(seen, metrics)

    prepared, stepper = accelerator.prepare(module, optimizer)
    prepared.train()
    while at.step < plan.steps:
        # Step: everything drawn, dropout included, depends on (seed, step) alone.
        factor = plan.lr_factor(at.step)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        seed_dropout(plan.seed, at.step)
        losses = _step(prepared, stepper, draw(at.step), accelerator, plan.grad_clip, at.step)
        at.ema.update(module, plan.ema_decay_at(at.step))
        at.step += 1
        at.recent.append(losses)

        # Report, act, save.
        seen = at.step * plan.batch_size
        if plan.due(plan.log_every, at.step):
            metrics = _means(at.recent) | {"learning_rate": rates[0] * factor}
            at.history.append((seen, metrics))
            at.recent.clear()
            hooks.report(seen, metrics)
        for every, action in hooks.every:
            if plan.due(every, at.step):
                action(seen, at.ema.module)
        stop = hooks.stop_requested()
        if stop or plan.due(plan.checkpoint_every, at.step):
            checkpoints.save(at.step, at.state())
        hooks.progress(seen)
        if stop:
            raise PatchDMError(f"stopped after {seen} of {plan.items_seen}; run again to go on")
    return at.ema.module.to("cpu")


def _step(
    module: nn.Module,
    optimizer: AcceleratedOptimizer,
    batch: tuple[Any, ...],
    accelerator: Accelerator,
    grad_clip: float,
    step: int,
) -> dict[str, Tensor]:
    """Take one optimiser step; return the losses and `grad_norm`, detached."""
    with accelerator.autocast():
        losses = module(*_to(batch, accelerator.device))
    _check_finite("loss", losses["loss"], step)
    accelerator.backward(losses["loss"])
    norm = accelerator.clip_grad_norm_(module.parameters(), grad_clip)
    if accelerator.scaler is None:  # which skips such steps itself
        _check_finite("norm of the gradients", norm, step)
    optimizer.step()
    optimizer.zero_grad()
    return {name: loss.detach() for name, loss in losses.items()} | {"grad_norm": norm}


def _check_finite(name: str, value: Tensor, step: int) -> None:
    """Stop before a step that would spoil the weights, and with them the next checkpoint."""
    if not value.isfinite():
        raise PatchDMError(
            f"step {step}: {name} is {value.item()}, allowed are finite numbers: "
            "a lower learning rate may help"
        )


def _means(recent: list[dict[str, Tensor]]) -> dict[str, float]:
    # On the CPU, where entries from a checkpoint lie.
    return {
        name: torch.stack([entry[name].cpu() for entry in recent]).mean().item()
        for name in recent[0]
    }


def _to(batch: tuple[Any, ...], device: torch.device) -> tuple[Any, ...]:
    return tuple(item.to(device) if isinstance(item, Tensor) else item for item in batch)
