"""What the two trainings share: who watches them."""

from __future__ import annotations

import contextlib
import functools
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from patchdm.console import progress, say, warn
from patchdm.formats.images import Pixels
from patchdm.training.loop import Hooks
from stages._common import die_with_parent, is_main


@contextlib.contextmanager
def watched(
    stage: str, state: Path, total: int, unit: str, *, compiled: bool = False
) -> Iterator[tuple[Hooks, Callable[[int, Pixels], None]]]:
    """Show a training's progress, keep its curves in `state`, and let SIGTERM wait for a step.

    Of a compiled training it says how long the first step took, which is when it compiles.

    `state/curves` is for DVC and holds nothing that another run would write differently.
    `state/tensorboard` has the speed and the pictures too. Both start afresh: a resumed training
    reports its past again. Only the main process of several shows and writes.

    Yields:
        The hooks of the training, and what shows a sheet of samples: items seen, (H, W, 3) uint8.
    """
    with contextlib.ExitStack() as stack:
        stop_requested = stack.enter_context(_deferred_sigterm())
        hooks = functools.partial(Hooks, stop_requested=stop_requested, start_worker=_start_worker)
        if not is_main():
            yield hooks(report=_nothing, progress=_nothing), _nothing
            return
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - slow to import

        curves = stack.enter_context(live_curves(state / "curves"))
        shutil.rmtree(state / "tensorboard", ignore_errors=True)
        board = stack.enter_context(SummaryWriter(str(state / "tensorboard")))
        show = stack.enter_context(progress(stage, total, unit))
        start = time.monotonic()
        last, running = (0, start), False  # running: no longer repeating the past

        def report(seen: int, metrics: dict[str, float]) -> None:
            nonlocal last
            curves(seen, metrics)
            (seen_before, before), now = last, time.monotonic()
            last = (seen, now)
            rate = {f"{unit} per second": (seen - seen_before) / (now - before)} if running else {}
            for name, value in (metrics | rate).items():
                board.add_scalar(name, value, seen)

        def step(seen: int) -> None:
            nonlocal running
            if compiled and not running:
                warn(f"train.compile: the first step took {time.monotonic() - start:.0f} s")
            if last[0] and not running:
                say(f"{stage}: resumed at {seen:,} of {total:,} {unit}")
            running = True
            show(seen)

        def picture(seen: int, pixels: Pixels) -> None:
            board.add_image("samples", pixels, seen, dataformats="HWC")

        yield hooks(report=report, progress=step), picture


def _nothing(*_: object) -> None:
    pass


@contextlib.contextmanager
def live_curves(folder: Path) -> Iterator[Callable[[int, dict[str, float]], None]]:
    """Start fresh training curves in a folder; yield the function that adds a point."""
    from dvclive.live import Live  # noqa: PLC0415 - slow to import, only trainings need it

    with Live(dir=str(folder), dvcyaml=None, save_dvc_exp=False, report=None) as live:

        def add(seen: int, metrics: dict[str, float]) -> None:
            live.step = seen
            for name, value in metrics.items():
                live.log_metric(name, value)
            live.sync()

        yield add


@contextlib.contextmanager
def _deferred_sigterm() -> Iterator[Callable[[], bool]]:
    """Within it, SIGTERM waits for a good moment: yield a function that says whether it came."""
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: received.append(number))
    try:
        yield lambda: bool(received)
    finally:
        signal.signal(signal.SIGTERM, before)


def _start_worker(_number: int) -> None:
    """Begin a process that only draws: it ends with its parent, and at once when told to."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
