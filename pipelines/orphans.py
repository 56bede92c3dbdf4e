"""End processes with their flow, also on other hosts, which no signal reaches."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextvars import copy_context
from pathlib import Path
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.context import TaskRunContext
from prefect.exceptions import PrefectException, TerminationSignal
from prefect.runtime import deployment, flow_run
from prefect.states import Cancelled

from pipelines import process, supervise

SECONDS_BETWEEN_LOOKS = 3.0

_process_of_flow = False


def begin() -> Path:
    """Start a flow: let its process end with the worker's; return its working folder."""
    global _process_of_flow  # noqa: PLW0603 - nothing else tells processes apart
    _process_of_flow = True
    process.ending.clear()
    if deployment.id is not None:  # a worker started us, and only it would end us
        supervise.die_with_parent()
    return Path.cwd()


@contextlib.contextmanager
def reporting_cancellation() -> Iterator[None]:
    """In a flow: say at once that a cancelled flow run is over.

    Its worker says so too, but looks every 3 s whether the process has ended, and starts another
    Python before, which looks for hooks in the flow.
    """
    try:
        yield
    except TerminationSignal:
        with (
            contextlib.suppress(PrefectException, httpx.HTTPError, OSError),
            get_client(sync_client=True) as client,
        ):
            state = client.read_flow_run(flow_run.id).state
            if state is not None and state.is_cancelling():
                client.set_flow_run_state(flow_run.id, Cancelled(message="Flow run was cancelled."))
        raise


def flow_has_ended() -> bool:
    """Return whether the flow of this task is over, being cancelled or interrupted."""
    if _process_of_flow:
        return process.ending.is_set()
    run = _flow_of_task()
    return run is not None and is_ending(run)


def ending_with_flow() -> contextlib.AbstractContextManager[None]:
    """In a task on another host or process: end all commands when its flow run ends."""
    run = _flow_of_task()
    if run is None or _process_of_flow:  # a flow ends its own children
        return contextlib.nullcontext()
    return ending_with(run)


def _flow_of_task() -> UUID | None:
    context = TaskRunContext.get()
    return context.task_run.flow_run_id if context else None


@contextlib.contextmanager
def ending_with(run: UUID) -> Iterator[None]:
    """Within it, end all commands when a flow run ends."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(SECONDS_BETWEEN_LOOKS):
            if is_ending(run):
                process.end_all()
                return

    threading.Thread(target=copy_context().run, args=(watch,), daemon=True).start()
    try:
        yield
    finally:
        over.set()


def is_ending(run: UUID) -> bool:
    """Return whether a flow run is over or being cancelled; False if the server does not answer."""
    with contextlib.suppress(PrefectException, httpx.HTTPError, OSError):
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(run).state
        return state is not None and (state.is_final() or state.is_cancelling())
    return False
