"""The training loop: draw, backward, step, average; report, checkpoint, resume.

One process or many, the same steps: every rank takes its share of a step's micro-batches, and
accelerate adds up the gradients. All else (the weights, their average, what is reported and saved)
is the same on every rank; the main one alone speaks and writes.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn, TypeVar

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.state import AcceleratorState
from diffusers import DDIMScheduler
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_state_dict,
)

from patchdm.devices import arriving, precision
from patchdm.errors import PatchDMError
from patchdm.training.batches import Batch, Draw, batches, workers_named
from patchdm.training.checkpoint import Checkpoints
from patchdm.training.draws import seed_dropout
from patchdm.training.ema import Ema, unsharded
from patchdm.training.plan import Plan

_Module = TypeVar("_Module", bound=nn.Module)
_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


@dataclass(kw_only=True)
class Hooks:
    """What the caller does while the loop runs."""

    report: Callable[[int, dict[str, float]], None]
    """(items seen, metrics) at every logged step; a resumed training first repeats its past."""
    progress: Callable[[int], None]
    """After every step, with the items seen."""
    stop_requested: Callable[[], bool]
    """Asked at every step; True saves a checkpoint and ends in PatchDMError, or a step later."""
    every: list[tuple[int, Callable[[int, Any], None]]] = field(default_factory=list)
    """(items, action): action(items seen, EMA module) whenever so many items have been seen."""
    start_worker: Callable[[int], None] | None = None
    """Called in every process that draws batches, with its number."""

    def silent(self) -> Hooks:
        """Return the hooks of a rank that does not speak."""
        return Hooks(
            report=lambda _seen, _metrics: None,
            progress=lambda _seen: None,
            stop_requested=self.stop_requested,
            every=[(items, lambda _seen, _average: None) for items, _ in self.every],
            start_worker=self.start_worker,
        )


@dataclass(kw_only=True)
class _Progress:
    """All that changes from step to step: what a checkpoint holds."""

    module: nn.Module
    optimizer: torch.optim.Optimizer
    ema: Ema
    scaler: torch.amp.GradScaler | None
    """Of the loss, under fp16."""
    step: int = 0
    history: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    recent: list[dict[str, Tensor]] = field(default_factory=list)
    """Losses of the items since the last report."""

    def state(self) -> dict[str, Any]:
        """Return everything, unsharded: all ranks must ask together."""
        module, optimizer = get_state_dict(self.module, self.optimizer, options=_WHOLE)
        return {
            "module": module,
            "optimizer": optimizer,
            "ema": self.ema.whole(),
            "scaler": self.scaler.state_dict() if self.scaler else None,
            "step": self.step,
            "history": self.history,
            "recent": self.recent,
        }

    def load(self, state: dict[str, Any]) -> None:
        set_state_dict(
            self.module,
            self.optimizer,
            model_state_dict=state["module"],
            optim_state_dict=state["optimizer"],
            options=_WHOLE,
        )
        self.ema.load(state["ema"])
        if self.scaler:
            self.scaler.load_state_dict(state["scaler"])
        self.step, self.history, self.recent = state["step"], state["history"], state["recent"]


def make_accelerator(plan: Plan, mixed_precision: str) -> Accelerator:
    """Return the accelerator of a training: devices, precision, accumulation of gradients.

    Raises:
        PatchDMError: the processes that were launched cannot share a step evenly.
    """
    # accelerate joins processes without GPUs only where it is told that there are none.
    cpu = not torch.accelerator.is_available()
    AcceleratorState._reset_state()  # noqa: SLF001 - of an earlier training, by another precision
    # Gradients are added up where they lie; no step changes a buffer, which ranks would exchange.
    ddp = DistributedDataParallelKwargs(gradient_as_bucket_view=True, broadcast_buffers=False)
    accelerator = Accelerator(
        cpu=cpu, mixed_precision=precision(mixed_precision), kwargs_handlers=[ddp]
    )
    share, rest = divmod(plan.batch_size, plan.micro_batch_size * accelerator.num_processes)
    if rest or not share:
        raise PatchDMError(
            f"found {accelerator.num_processes} processes, expected divisors of "
            f"train.batch_size / train.micro_batch_size = "
            f"{plan.batch_size} / {plan.micro_batch_size}"
        )
    accelerator.gradient_accumulation_steps = share
    return accelerator


def fit(
    module: _Module,
    optimizer: torch.optim.Optimizer,
    draw: Draw,
    plan: Plan,
    *,
    accelerator: Accelerator,
    checkpoints: Checkpoints,
    hooks: Hooks,
    workers: int = 0,
    compile_module: bool = False,
) -> _Module:
    """Train a module and return its weight average.

    Args:
        module: forward(**draw(items)) returns named losses (B,), one an item, of which the mean
            of "loss" is minimised; an item without some other loss has NaN there.
        optimizer: over the module's parameters, at full learning rates.
        draw: a batch, as a function of the numbers of its items alone.
        plan: budget and schedules.
        accelerator: devices and precision, from `make_accelerator`.
        checkpoints: where progress is kept; the newest is resumed.
        hooks: what to tell whom; on the main process alone, but for `stop_requested`.
        workers: processes that draw ahead for each process; 0: none.
        compile_module: pass the module through torch.compile.

    Returns:
        The EMA module, on the CPU, in evaluation mode.

    Raises:
        PatchDMError: a loss or a gradient is not finite, or a stop was requested.
    """
    if not accelerator.is_main_process:
        hooks = hooks.silent()
    rates = [group["lr"] for group in optimizer.param_groups]
    average = copy.deepcopy(module).eval().requires_grad_(False).to(accelerator.device)
    if compile_module:
        place_schedules(module, accelerator.device)
        module.compile()
    with warnings.catch_warnings():
        # torch has another name for it by now, which accelerate does not know.
        warnings.filterwarnings("ignore", "`broadcast_buffers`")
        prepared, stepper = accelerator.prepare(module, optimizer)
    parameters = list(prepared.parameters())
    ema, scaler = Ema(parameters), accelerator.scaler
    at = _Progress(module=prepared, optimizer=optimizer, ema=ema, scaler=scaler)
    _resume(at, checkpoints, plan, hooks, average)
    prepared.train()
    drawn = batches(draw, plan, accelerator, at.step, workers, hooks.start_worker)
    saves = [plan.checkpoint_every, *(every for every, _ in hooks.every)]
    step = partial(_step, prepared, parameters, stepper, drawn, plan, accelerator)
    verdict: Callable[[], bool] = bool  # on the step before: see `_verdict`
    with workers_named(workers), contextlib.closing(drawn):
        while at.step < plan.steps:
            # Everything drawn, dropout included, depends on the seed and the items alone.
            factor = plan.lr_factor(at.step)
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            losses, verdict_on_this = step(at.step, hooks.stop_requested)
            at.ema.update(parameters, plan.ema_decay_at(at.step))
            at.step += 1
            at.recent.append(losses)
            stop, verdict = verdict(), verdict_on_this  # a GPU has the next step to do meanwhile
            save = stop or any(plan.due(every, at.step) for every in saves)
            if save or plan.due(plan.log_every, at.step):
                stop |= verdict()
            seen = at.step * plan.batch_size
            _report(at, seen, plan, hooks, learning_rate=rates[0] * factor)
            if save or stop:
                _save(checkpoints, at, accelerator)  # first: an action may run out of memory
            _act(at, plan, hooks, average)
            hooks.progress(seen)
            if stop:
                raise PatchDMError(f"stopped after {seen} of {plan.items_seen}; run again to go on")
    return at.ema.copy_to(average).to("cpu")


def _resume(
    at: _Progress, checkpoints: Checkpoints, plan: Plan, hooks: Hooks, average: nn.Module
) -> None:
    """Go back to the newest checkpoint, if there is one, and report what was before it."""
    if (saved := checkpoints.load()) is not None:
        at.load(saved)
    for seen, metrics in at.history:
        hooks.report(seen, metrics)
    if at.step:
        _act(at, plan, hooks, average)  # a kill may have come between saving and this


def place_schedules(module: nn.Module, device: torch.device) -> None:
    """Move the noise schedules of a module to a device.

    diffusers moves a schedule in its first call, after which torch would compile a second time.
    """
    for part in module.modules():
        if isinstance(scheduler := getattr(part, "scheduler", None), DDIMScheduler):
            scheduler.alphas_cumprod = scheduler.alphas_cumprod.to(device)


def _report(at: _Progress, seen: int, plan: Plan, hooks: Hooks, *, learning_rate: float) -> None:
    """Report the means since the last report, if one is due."""
    if plan.due(plan.log_every, at.step):
        at.history.append((seen, _means(at.recent) | {"learning_rate": learning_rate}))
        at.recent.clear()
        hooks.report(*at.history[-1])


def _act(at: _Progress, plan: Plan, hooks: Hooks, average: nn.Module) -> None:
    """Call the actions that are due."""
    for every, action in hooks.every:
        if plan.due(every, at.step):
            action(at.step * plan.batch_size, at.ema.copy_to(average))


def _save(checkpoints: Checkpoints, at: _Progress, accelerator: Accelerator) -> None:
    state = at.state()  # shards come together here, so all ranks ask
    if accelerator.is_main_process:
        checkpoints.save(at.step, state)


def _step(
    module: nn.Module,
    parameters: list[nn.Parameter],
    optimizer: AcceleratedOptimizer,
    drawn: Iterator[Batch],
    plan: Plan,
    accelerator: Accelerator,
    step: int,
    stop_requested: Callable[[], bool],
) -> tuple[dict[str, Tensor], Callable[[], bool]]:
    """Take one optimiser step.

    Returns:
        The losses of all items on all ranks, with them `grad_norm`, once (NaN where the scaler of
        fp16 skipped the step); and its verdict.
    """
    share = accelerator.gradient_accumulation_steps
    first = (step * plan.micro_batches) + accelerator.process_index
    parts: list[dict[str, Tensor]] = []
    for number in range(
        first, first + share * accelerator.num_processes, accelerator.num_processes
    ):
        batch = next(drawn)
        seed_dropout(plan.seed, plan.items(number).start)
        with accelerator.accumulate(module):
            with accelerator.autocast():
                losses = module(**batch)
            accelerator.backward(losses["loss"].mean())
            origin = {name: batch[name].to(losses["loss"]) for name in ("t", "image")}  # type: ignore[union-attr]
            parts.append({name: value.detach() for name, value in (losses | origin).items()})
            if accelerator.sync_gradients:
                norm = unsharded(accelerator.clip_grad_norm_(parameters, plan.grad_clip))
                found = _everywhere(parts, stop_requested(), accelerator)
            optimizer.step()
            optimizer.zero_grad()
    verdict = _verdict(found, norm, step, scaled=accelerator.scaler is not None)
    losses = {name: found[name] for name in parts[0] if name not in {"t", "image"}}
    return losses | {"grad_norm": norm.where(norm.isfinite(), torch.nan).reshape(1)}, verdict


def _everywhere(
    parts: list[dict[str, Tensor]], stop: bool, accelerator: Accelerator
) -> dict[str, Tensor]:
    """Join micro-batches and ranks, in one exchange: named values (B,) of the whole step."""
    names = [*parts[0], "stop"]
    mine = torch.stack([torch.cat([part[name] for part in parts]) for name in parts[0]])
    mine = torch.cat([mine, mine.new_full((1, mine.shape[1]), stop)])
    ranks = accelerator.gather(mine).unflatten(0, (-1, len(names)))
    return dict(zip(names, ranks.movedim(1, 0).flatten(1), strict=True))


def _verdict(
    found: dict[str, Tensor], norm: Tensor, step: int, *, scaled: bool
) -> Callable[[], bool]:
    """Return what waits for a step and says whether some rank was asked to stop.

    It raises PatchDMError if a loss or the norm of the gradients is not finite. Called a step
    later, it lets a GPU work on; it must be called before weights are used: they may be spoilt.
    """
    # Under fp16 the scaler skips steps of too large gradients itself.
    healthy = found["loss"].isfinite().all() & (norm.isfinite() | scaled)
    flags = arriving(torch.stack([healthy, found["stop"].any()]))

    def verdict() -> bool:
        healthy, stop = flags()
        if not healthy:
            _refuse(found, norm, step)
        return stop

    return verdict


def _refuse(found: dict[str, Tensor], norm: Tensor, step: int) -> NoReturn:
    healthy = found["loss"].isfinite()
    if healthy.all():
        name, value, where = "norm of the gradients", norm.item(), torch.ones_like(healthy)
    else:
        name, where = "loss", ~healthy
        value = found["loss"][where][0].item()
    places = [
        f"t = {t:.0f} of image {image:.0f}"
        for t, image in zip(found["t"][where], found["image"][where], strict=True)
    ]
    raise PatchDMError(
        f"step {step}: {name} is {value}, expected finite numbers: a lower learning rate may "
        f"help; found at {', '.join(places[:8])}{' ..' if len(places) > 8 else ''}"
    )


def _means(recent: list[dict[str, Tensor]]) -> dict[str, float]:
    """Mean over all items that have a value; a quantity that none has is left out."""
    # On the CPU, where entries from a checkpoint lie.
    joined = {name: torch.cat([entry[name].cpu() for entry in recent]) for name in recent[0]}
    means = {name: values.nanmean().item() for name, values in joined.items()}
    return {name: value for name, value in means.items() if value == value}  # noqa: PLR0124 - NaN
