"""The engine of every flow: the stale stages of DVC's graph as Prefect tasks."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from prefect import get_run_logger

from pipelines import artifacts, clones, orphans, tasks
from pipelines.errors import TransientError
from pipelines.graph import Graph, read_graph
from pipelines.place import Place, gpus, task_runner
from pipelines.schedule import Future, run_in_order
from pipelines.stage import run_by_worker


def bring_up_to_date(
    up_to: Sequence[str],
    place: Place,
    root: Path | None = None,
    on_done: Callable[[list[str]], None] = lambda _names: None,
    *,
    pull: bool = False,
) -> None:
    """Bring stages up to date.

    Args:
        up_to: stages, with all stages that they read from; empty: every stage.
        place: where they run.
        root: the repository; None: the working folder.
        on_done: called with the stages that are up to date, then with each that is done.
        pull: take from the default remote what ran elsewhere.

    Raises:
        FlowError: the repository or a parameter is wrong, or stages failed. All stages that do not
            read from a failed one are up to date then.
    """
    root = root or orphans.begin()
    runner = task_runner(place)
    tasks.check_slot(place.gpu_slot)
    graph = _read_patiently(root, up_to)
    fresh = [name for name in graph.stages if name not in graph.stale]
    get_run_logger().info("%d of %d stages are up to date", len(fresh), len(graph.stages))
    for name in fresh:
        artifacts.publish(name, graph.stages[name].outs, root)
    on_done(fresh)
    if not graph.pending:
        return
    if place.has_clones:
        clones.check_remote(root, tasks.talk)
        for stage in graph.pending:
            if stage.here:
                tasks.run_stage.with_options(name=stage.name)(stage, root, None, None, pull)
                graph = replace(graph, stale=graph.stale - {stage.name})
        clones.push_inputs(graph, root, tasks.talk)

    def done(name: str) -> None:
        if place.has_clones:
            clones.restore(name, root, tasks.talk)
            artifacts.publish(name, graph.stages[name].outs, root)
        on_done([name])

    def submit(name: str, done_before: list[Future]) -> Future:
        stage = graph.stages[name]
        parameters = {
            "stage": stage,
            "root": root,
            "snapshot": clones.take_snapshot(root) if place.has_clones else None,
            "gpu_slot": place.gpu_slot if stage.gpu else None,
        }
        if place.runner == "workers":
            task = run_by_worker
        else:
            task, parameters["pull"] = tasks.run_stage, pull
        named = task.with_options(name=name, task_run_name=name)
        with gpus(place) if stage.gpu else contextlib.nullcontext():
            return runner.submit(named, parameters, wait_for=done_before)

    run_in_order(
        {stage.name: graph.stale.intersection(stage.upstream) for stage in graph.pending},
        submit,
        runner=runner,
        concurrency=place.concurrency,
        on_done=done,
    )


def _read_patiently(root: Path, up_to: Sequence[str]) -> Graph:
    for delay in tasks.RETRY_DELAYS:
        try:
            return read_graph(root, up_to)
        except TransientError as error:
            get_run_logger().info("%s, trying again", error)
            time.sleep(delay)
    return read_graph(root, up_to)
