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
from prefect.exceptions import PrefectException
from prefect.runtime import deployment

from pipelines import process, supervise

SECONDS_BETWEEN_LOOKS = 3.0

_process_of_flow = False


def begin() -> Path:
    """Start a flow: let its process end with the worker's; return its working folder."""
    global _process_of_flow  # noqa: PLW0603 - nothing else tells processes apart
    _process_of_flow = True
    if deployment.id is not None:  # a worker started us, and only it would end us
        supervise.die_with_parent()
    return Path.cwd()


def ending_with_flow() -> contextlib.AbstractContextManager[None]:
    """In a task on another host or process: end all commands when its flow run ends."""
    context = TaskRunContext.get()
    flow_run = context and context.task_run.flow_run_id
    if flow_run is None or _process_of_flow:  # a flow ends its own children
        return contextlib.nullcontext()
    return ending_with(flow_run)


@contextlib.contextmanager
def ending_with(flow_run: UUID) -> Iterator[None]:
    """Within it, end all commands when a flow run ends."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(SECONDS_BETWEEN_LOOKS):
            if is_ending(flow_run):
                process.end_all()
                return

    threading.Thread(target=copy_context().run, args=(watch,), daemon=True).start()
    try:
        yield
    finally:
        over.set()


def is_ending(flow_run: UUID) -> bool:
    """Return whether a flow run is over or being cancelled; False if the server does not answer."""
    with contextlib.suppress(PrefectException, httpx.HTTPError, OSError):
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(flow_run).state
        return state is not None and (state.is_final() or state.is_cancelling())
    return False
