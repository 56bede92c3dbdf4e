"""One engine under every flow: the stale part of DVC's graph as Prefect tasks."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas import TaskRun
from prefect.client.schemas.objects import State
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectNotFound
from prefect.futures import PrefectFuture, as_completed
from prefect.runtime import deployment
from prefect.task_runners import TaskRunner
from prefect.tasks import Task

from pipelines import artifacts, process, supervise
from pipelines.errors import FlowError, TransientError, failure
from pipelines.graph import Graph, Stage, read_graph
from pipelines.place import Place, task_runner

RETRY_DELAYS = [2.0, 5.0, 15.0]
"""Seconds before each retry of what the network, a remote or a lock has spoilt."""

TAIL = 200
"""Lines of output in which a failed command says why."""


def bring_up_to_date(up_to: Sequence[str], place: Place) -> None:
    """Bring all stages, or those up to some, up to date.

    Raises:
        FlowError: the repository or a parameter is wrong, or stages failed. The others, as far as
            they do not read from a failed one, have then been brought up to date.
    """
    if deployment.id is not None:  # a worker started us, and nobody else will miss us
        supervise.die_with_parent()
    root = Path.cwd()
    runner = task_runner(place)
    _check_slot(place)
    graph = _read_patiently(root, up_to)
    fresh = len(graph.stages) - len(graph.pending)
    get_run_logger().info("%d of %d stages are up to date", fresh, len(graph.stages))
    if graph.pending:
        with runner:
            _run_pending(graph, root, place, runner)


def is_transient(_task: Task[..., Any], _task_run: TaskRun, state: State) -> bool:
    """Say whether a failed task may succeed another time."""
    return isinstance(state.data, TransientError)


@task(
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=len(RETRY_DELAYS),
    retry_delay_seconds=RETRY_DELAYS,
    retry_condition_fn=is_transient,
)
def run_stage(stage: Stage, root: Path, gpu_slot: str | None) -> None:
    """Let DVC run one stage; show what it says and what it wrote."""
    log = get_run_logger()
    progress = artifacts.Progress(stage.name)
    tail: deque[str] = deque(maxlen=TAIL)

    def on_line(line: str) -> None:
        if text := progress.follow(line):
            log.info(text)
            tail.append(text)

    slot = concurrency(gpu_slot, strict=True) if gpu_slot else contextlib.nullcontext()
    with slot:
        code = process.run(dvc("repro", "--single-item", stage.name), on_line, root)
    if code:
        raise failure(f"stage {stage.name}", tail)
    artifacts.publish(stage.name, stage.outs, root)


def dvc(*arguments: str) -> list[str]:
    """Return a DVC command that waits while another one commits."""
    return ["dvc", "--wait-for-lock", *arguments]


def _run_pending(graph: Graph, root: Path, place: Place, runner: TaskRunner[Any]) -> None:
    """Run the stale stages: each as soon as those it reads from are done and a place is free."""
    waiting = {stage.name: graph.stale.intersection(stage.upstream) for stage in graph.pending}
    running: dict[PrefectFuture[Any], str] = {}
    done: dict[str, PrefectFuture[Any]] = {}
    failures: list[str] = []
    try:
        while True:
            ready = [name for name, upstream in waiting.items() if upstream <= done.keys()]
            for name in ready[: place.concurrency - len(running)]:
                upstream = [done[other] for other in waiting.pop(name)]
                running[_submit(graph.stages[name], upstream, root, place, runner)] = name
            if not running:
                break
            future = next(as_completed(list(running)))
            name = running.pop(future)
            future.wait()
            if future.state.is_completed():
                done[name] = future
            else:
                failures.append(_reason(name, future))
    except BaseException:  # the flow is cancelled or its process told to end: so are its children
        process.end_all()
        raise
    if failures:
        never = f"; not run: {', '.join(waiting)}" if waiting else ""
        raise FlowError("; ".join(failures) + never)


def _reason(name: str, future: PrefectFuture[Any]) -> str:
    error = future.result(raise_on_failure=False)
    if isinstance(error, FlowError):
        return str(error)
    text = str(error).partition("\n")[0] or type(error).__name__
    return f"stage {name}: {future.state.name}: {text}"


def _submit(
    stage: Stage,
    upstream: list[PrefectFuture[Any]],
    root: Path,
    place: Place,
    runner: TaskRunner[Any],
) -> PrefectFuture[Any]:
    named = run_stage.with_options(name=stage.name, task_run_name=stage.name)
    slot = place.gpu_slot if stage.gpu else None
    parameters = {"stage": stage, "root": root, "gpu_slot": slot}
    options: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if place.runner == "ray" and stage.gpu:
        from prefect_ray.context import remote_options  # noqa: PLC0415 - an extra

        options = remote_options(num_gpus=place.num_gpus)
    with options:
        return runner.submit(named, parameters, wait_for=upstream)


def _read_patiently(root: Path, up_to: Sequence[str]) -> Graph:
    for delay in RETRY_DELAYS:
        try:
            return read_graph(root, up_to)
        except TransientError as error:
            get_run_logger().info("%s, trying again", error)
            time.sleep(delay)
    return read_graph(root, up_to)


def _check_slot(place: Place) -> None:
    if place.gpu_slot is None:
        return
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(place.gpu_slot)
        except ObjectNotFound:
            raise FlowError(
                f"place.gpu_slot: no concurrency limit {place.gpu_slot!r}, make it with "
                f"`prefect gcl create {place.gpu_slot} --limit 1`"
            ) from None
