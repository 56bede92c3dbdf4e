"""What the two trainings share: who watches them, and how several processes train together."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from patchdm.console import progress, warn
from patchdm.errors import PatchDMError
from patchdm.formats.images import Pixels
from stages._common import die_with_parent, is_main

_GRACE = 20.0
"""Seconds in which the processes of a training save and end, once one has ended."""


@dataclass(frozen=True)
class Watch:
    """Where a training says how it goes."""

    report: Callable[[int, dict[str, float]], None]
    """A point of the curves: items seen, metrics."""
    progress: Callable[[int], None]
    """Items seen, after every step."""
    picture: Callable[[int, Pixels], None]
    """A sheet of samples, (H, W, 3)."""
    stop_requested: Callable[[], bool]
    """Whether SIGTERM came, which waits for the end of a step."""


@contextlib.contextmanager
def watched(
    stage: str, state: Path, total: int, unit: str, *, compiled: bool = False
) -> Iterator[Watch]:
    """Show a training's progress, and keep its curves in `state`.

    Of a compiled training it says how long the first step took, which is when it compiles.

    `state/curves` is for DVC and holds nothing that another run would write differently.
    `state/tensorboard` has the speed and the pictures too. Both start afresh: a resumed training
    reports its past again. Only the main process of several shows and writes.
    """
    with contextlib.ExitStack() as stack:
        stop_requested = stack.enter_context(_deferred_sigterm())
        if not is_main():
            yield Watch(_nothing, _nothing, _nothing, stop_requested)
            return
        curves = stack.enter_context(live_curves(state / "curves"))
        board = stack.enter_context(_tensorboard(state / "tensorboard"))
        show = stack.enter_context(progress(stage, total, unit))
        speed = _Speed()
        start = time.monotonic()

        def report(seen: int, metrics: dict[str, float]) -> None:
            curves(seen, metrics)
            for name, value in (metrics | speed.since_last(seen, f"{unit} per second")).items():
                board.add_scalar(name, value, seen)

        def step(seen: int) -> None:
            if compiled and not speed.running:
                warn(f"train.compile: the first step took {time.monotonic() - start:.0f} s")
            speed.running = True
            show(seen)

        def picture(seen: int, pixels: Pixels) -> None:
            board.add_image("samples", pixels, seen, dataformats="HWC")

        yield Watch(report, step, picture, stop_requested)


class _Speed:
    """Items a second between two reports of a running training."""

    running = False
    """False while a resumed training repeats its past."""

    def __init__(self) -> None:
        self.seen, self.time = 0, time.monotonic()

    def since_last(self, seen: int, name: str) -> dict[str, float]:
        now = time.monotonic()
        rate = (seen - self.seen) / (now - self.time)
        self.seen, self.time = seen, now
        return {name: rate} if self.running else {}


def _nothing(*_: object) -> None:
    pass


@contextlib.contextmanager
def live_curves(folder: Path) -> Iterator[Callable[[int, dict[str, float]], None]]:
    """Start fresh training curves in a folder; yield the function that adds a point."""
    from dvclive import Live  # noqa: PLC0415 - slow to import, only trainings need it

    with Live(dir=str(folder), dvcyaml=None, save_dvc_exp=False, report=None) as live:

        def add(seen: int, metrics: dict[str, float]) -> None:
            live.step = seen
            for name, value in metrics.items():
                live.log_metric(name, value)
            live.sync()

        yield add


@contextlib.contextmanager
def _tensorboard(folder: Path) -> Iterator[Any]:
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - slow to import

    shutil.rmtree(folder, ignore_errors=True)
    with SummaryWriter(str(folder)) as board:
        yield board


@contextlib.contextmanager
def _deferred_sigterm() -> Iterator[Callable[[], bool]]:
    """Within it, SIGTERM waits for a good moment: yield a function that says whether it came."""
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: received.append(number))
    try:
        yield lambda: bool(received)
    finally:
        signal.signal(signal.SIGTERM, before)


def start_worker(_number: int) -> None:
    """Begin a process that only draws: it ends with its parent, and at once when told to."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()


def launched() -> bool:
    """Say whether this is one of several processes that train together, whoever started them.

    Raises:
        PatchDMError: several were meant, and this is the only one.
    """
    if "MASTER_ADDR" in os.environ and "WORLD_SIZE" not in os.environ:
        raise PatchDMError(
            "one process was launched and told of others: without GPUs, `accelerate launch "
            "--num_processes N` needs --multi_gpu too; machine.processes needs no launcher"
        )
    return "WORLD_SIZE" in os.environ


def join() -> int:
    """Meet the other processes of a launched training; return how many train together."""
    # Where nothing is said of threads, accelerate sets what it thinks best.
    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
    # Without GPUs it must be told, or each process takes itself for the only one.
    return int(PartialState(cpu=not torch.accelerator.is_available()).num_processes)


def train_together(module: str, processes: int) -> None:
    """Run a stage's module in several processes that find each other as torchrun's do.

    Raises:
        PatchDMError: one of them failed; the main one has said why, or this says what another did.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes, "MASTER_PORT": port}
    with contextlib.ExitStack() as stack:
        # The main process speaks for all; what the others say is kept for when they fail.
        said = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(1, processes)]
        ranks: list[subprocess.Popen[bytes]] = []
        try:
            for rank, stderr in enumerate([None, *said]):
                variables = world | {"RANK": rank, "LOCAL_RANK": rank}
                words = {name: str(value) for name, value in variables.items()}
                ranks.append(
                    subprocess.Popen(  # noqa: S603 - our own module
                        [sys.executable, "-m", module],
                        env=os.environ | {"MASTER_ADDR": "127.0.0.1"} | words,
                        stderr=stderr,
                        preexec_fn=die_with_parent,  # noqa: PLW1509 - no threads run here yet
                    )
                )
            failed = _first_failure(ranks)
        finally:
            _end(ranks)  # after SIGTERM, they save their progress first
        if failed is None:
            return
        status = ranks[failed].returncode
        if status < 0:
            raise PatchDMError(f"process {failed} of {processes} was killed by signal {-status}")
        if failed == 0:
            sys.exit(status)  # it has said why
        said[failed - 1].seek(0)
        *_, last = ["nothing", *said[failed - 1].read().strip().splitlines()]
        raise PatchDMError(f"process {failed} of {processes}: {last.removeprefix('error: ')}")


def _first_failure(ranks: list[subprocess.Popen[bytes]]) -> int | None:
    """Wait until all processes end, or one fails; return which."""
    while True:
        statuses = [rank.poll() for rank in ranks]
        failures = [n for n, status in enumerate(statuses) if status]
        if failures:
            return failures[0]
        if all(status == 0 for status in statuses):
            return None
        time.sleep(0.1)


def _end(ranks: list[subprocess.Popen[bytes]]) -> None:
    """End processes that still run: by SIGTERM, and by SIGKILL those that cannot hear it."""
    for rank in ranks:
        if rank.poll() is None:
            rank.terminate()
    deadline = time.monotonic() + _GRACE
    for rank in ranks:
        try:
            rank.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            rank.kill()  # it waits for one that has gone
            rank.wait()
