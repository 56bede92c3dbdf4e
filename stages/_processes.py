"""How several processes train together; how many there are changes no byte."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import torch
from accelerate import PartialState

from patchdm.config import Params
from patchdm.errors import PatchDMError
from stages._common import die_with_parent

WORTH_A_START = 2**26
"""Numbers in the first feature maps of a training, above which a process is worth its start: half a
minute of the demo."""
_GRACE = 20.0
"""Seconds in which the processes of a training save and end, once one has ended."""


def processes_of(params: Params) -> int:
    """Return how many processes train: none starts for a training that ends before it could.

    Raises:
        PatchDMError: more are wanted than there are GPUs.
    """
    config, model, wanted = params.train, params.model, params.machine.processes
    if wanted and torch.cuda.is_available() and wanted > torch.cuda.device_count():
        raise PatchDMError(
            f"machine.processes is {wanted}, expected at most the {torch.cuda.device_count()} GPUs "
            "here"
        )
    if wanted or torch.accelerator.is_available():
        return wanted or 1
    window = (2 * model.patch_size // model.pixel_fold) ** 2
    work = config.images_seen * window * model.channels[0]
    return config.cpu_shares(params.base.threads) if work > WORTH_A_START else 1


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


def train_together(command: Sequence[str], processes: int) -> None:
    """Run a command in several processes that find each other as torchrun's do.

    Args:
        command: module of a stage and its arguments.
        processes: how many.

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
                    subprocess.Popen(  # noqa: S603 - our own modules
                        [sys.executable, "-m", *command],
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
        lines = ["nothing", *said[failed - 1].read().strip().splitlines()]
        # Libraries may warn after it, as the process ends.
        last = next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1])
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
