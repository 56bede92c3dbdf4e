"""Tasks: run commands, show their output, fail with their reason."""

from __future__ import annotations

import contextlib
import functools
import re
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ParamSpec

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas import TaskRun
from prefect.client.schemas.objects import State
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled
from prefect.tasks import Task

from pipelines import artifacts, clones, process
from pipelines.clones import Snapshot
from pipelines.errors import FlowError, TransientError, failure
from pipelines.graph import Stage
from pipelines.orphans import ending_with_flow, flow_has_ended

Arguments = ParamSpec("Arguments")

RETRY_DELAYS = [2.0, 5.0, 15.0]
"""Seconds before each retry after an error of the network, a remote or a lock."""

TAIL = 200
"""Last lines of output in which the reason of a failed command is searched."""

HINT = re.compile(
    r"To track the changes with git, run:|\tgit add .*|To enable auto staging, run:"
    r"|\tdvc config core\.autostage true|Use `dvc push` to send your updates to remote storage\."
)
"""Lines that DVC repeats after every stage, for somebody at a terminal."""


def is_transient(_task: Task[..., Any], _task_run: TaskRun, state: State) -> bool:
    """Return whether a failed task may succeed when repeated."""
    return isinstance(state.data, TransientError)


def cancelled_with_flow(
    work: Callable[Arguments, None],
) -> Callable[Arguments, State[Any] | None]:
    """Make a task of this end with its flow, and its run be Cancelled then instead of Failed."""

    @functools.wraps(work)
    def ending(*args: Arguments.args, **kwargs: Arguments.kwargs) -> State[Any] | None:
        try:
            with ending_with_flow():
                work(*args, **kwargs)
        except FlowError as error:
            if not flow_has_ended():
                raise
            return Cancelled(message=f"The flow run has ended; {error}")
        return None

    return ending


OPTIONS: dict[str, Any] = {
    "cache_policy": NO_CACHE,
    "persist_result": False,
    "retries": len(RETRY_DELAYS),
    "retry_delay_seconds": RETRY_DELAYS,
    "retry_condition_fn": is_transient,
}


@task(**OPTIONS)
@cancelled_with_flow
def run_stage(
    stage: Stage, root: Path, snapshot: Snapshot | None, gpu_slot: str | None, pull: bool = False
) -> None:
    """Let DVC run one stage: in a tree of this host, or with a snapshot in a clone."""
    with slot(gpu_slot):
        if snapshot is None:
            options = ["--single-item", *(["--pull"] if pull else [])]
            talk(stage.name, clones.dvc("repro", *options, stage.name), root)
            artifacts.publish(stage.name, stage.outs, root)
        else:
            clones.run_stage(stage, snapshot, talk)


def talk(name: str, command: Sequence[str], root: Path) -> list[str]:
    """Run a command, log its output, show its progress, return its last lines; see `failure`."""
    log = get_run_logger()
    progress = artifacts.Progress(name)
    tail: deque[str] = deque(maxlen=TAIL)

    def on_line(line: str) -> None:
        if HINT.fullmatch(line):
            return
        log.info(line)
        tail.append(line)
        progress.follow(line)

    if code := process.run(command, on_line, root):
        raise failure(name, tail, code)
    return list(tail)


def slot(limit: str | None) -> contextlib.AbstractContextManager[None]:
    """Hold a slot of a Prefect concurrency limit; None: of none."""
    return contextlib.nullcontext() if limit is None else concurrency(limit, strict=True)


def check_slot(limit: str | None) -> None:
    """Raise a FlowError if a concurrency limit does not exist."""
    if limit is None:
        return
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(limit)
        except ObjectNotFound:
            raise FlowError(
                f"place.gpu_slot: no concurrency limit {limit!r}, "
                f"make it with `prefect gcl create {limit} --limit 1`"
            ) from None
