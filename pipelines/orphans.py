"""Processes on other hosts, which no signal reaches, end when their flow does."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextvars import copy_context
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.context import TaskRunContext
from prefect.exceptions import PrefectException

from pipelines import process

SECONDS_BETWEEN_LOOKS = 3.0

_process_of_flow = False


def this_is_the_flow() -> None:
    """Say that this process runs the flow itself."""
    global _process_of_flow  # noqa: PLW0603 - processes differ in nothing else
    _process_of_flow = True


@contextlib.contextmanager
def ending_with_flow() -> Iterator[None]:
    """Within it, in a process other than the flow's, end all commands when the flow run ends."""
    context = TaskRunContext.get()
    if context is None or _process_of_flow:
        yield  # a flow ends its own children
        return
    flow_run = context.task_run.flow_run_id
    over = threading.Event()
    watch = threading.Thread(
        target=copy_context().run, args=(_watch, flow_run, over), daemon=True, name="watch-flow"
    )
    watch.start()
    try:
        yield
    finally:
        over.set()


def _watch(flow_run: UUID, over: threading.Event) -> None:
    while not over.wait(SECONDS_BETWEEN_LOOKS):
        if is_ending(flow_run):
            process.end_all()
            return


def is_ending(flow_run: UUID) -> bool:
    """Whether a flow run is over or being cancelled; not, where the server does not answer."""
    with contextlib.suppress(PrefectException, httpx.HTTPError, OSError):
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(flow_run).state
        return state is not None and (state.is_final() or state.is_cancelling())
    return False
