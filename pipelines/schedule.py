"""The order of tasks: each starts when those before it are done and a slot is free."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, as_completed
from prefect.task_runners import TaskRunner

from patchdm.errors import PatchDMError
from pipelines import orphans, process
from pipelines.errors import FlowError, reason

Future = PrefectFuture[Any]


def run_in_order(
    before: Mapping[str, frozenset[str]],
    submit: Callable[[str, list[Future]], Future],
    *,
    runner: TaskRunner[Any],
    concurrency: int,
    on_done: Callable[[str], None] = lambda _name: None,
) -> None:
    """Run named tasks, a limited number at a time.

    In Prefect's runners a task that waits for others would occupy a slot.

    Args:
        before: name of a task -> names that must be done before it.
        submit: starts a task in the runner; gets the futures before it, which Prefect draws as its
            inputs.
        runner: where they run, from here on until all are done.
        concurrency: most tasks at a time.
        on_done: called when a task is done, before those after it start.

    Raises:
        FlowError: tasks failed. All that do not come after a failed one have run.
    """
    waiting = dict(before)
    running: dict[Future, str] = {}
    done: dict[str, Future] = {}
    failures: list[str] = []
    with orphans.reporting_cancellation(), runner, _ending_children():
        while True:
            ready = [name for name, others in waiting.items() if others <= done.keys()]
            for name in ready[: concurrency - len(running)]:
                running[submit(name, [done[other] for other in waiting.pop(name)])] = name
            if not running:
                break
            future = next(as_completed(list(running)))
            name = running.pop(future)
            try:
                _check(name, future)
                on_done(name)
                done[name] = future
            except PatchDMError as error:
                failures.append(str(error))
    if failures:
        never = f"; not run: {', '.join(waiting)}" if waiting else ""
        raise FlowError("; ".join(failures) + never)


@contextlib.contextmanager
def _ending_children() -> Iterator[None]:
    """When the flow is cancelled or its process ends, end its children."""
    try:
        yield
    except BaseException:
        process.end_all()
        raise


def _check(name: str, future: Future) -> None:
    try:
        future.wait()
        if future.state.is_completed():
            return
        error = future.result(raise_on_failure=False)
    except Exception as raised:  # noqa: BLE001 - of a cluster whose worker cannot take the task
        error = raised
    if isinstance(error, PatchDMError):
        raise error
    if isinstance(error, State):  # that it was cancelled
        raise FlowError(f"{name}: {error.message}")
    raise FlowError(f"{name}: {reason(error)}")
