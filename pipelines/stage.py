"""Flow stage: one stage in the clone of a worker, for a flow that runs elsewhere.

`place.runner=workers` starts such runs, one per stale stage, in the work pool `clones`.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId, LogFilterLevel
from prefect.client.schemas.objects import State
from prefect.client.schemas.sorting import LogSort
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.runtime import flow_run
from prefect.states import Cancelled

from pipelines import process, tasks
from pipelines.clones import Snapshot
from pipelines.errors import FlowError
from pipelines.graph import Stage
from pipelines.orphans import begin, ending_with

DEPLOYMENT = "stage/clone"
SECONDS_BETWEEN_LOOKS = 2.0


@flow(name="stage", flow_run_name="{stage.name}", persist_result=False)
def stage(stage: Stage, snapshot: Snapshot, parent: UUID) -> State[Any] | None:
    """Run one stage in this clone and push its outputs.

    Args:
        stage: as DVC describes it.
        snapshot: the state of the requesting flow's tree.
        parent: the requesting flow run; when it ends, so does this one.
    """
    begin()
    task = tasks.run_stage.with_options(name=stage.name, task_run_name=stage.name)
    with ending_with(parent):
        cancelled = task(stage, Path(), snapshot, None)
    return cancelled and Cancelled(message="The flow run that asked for it has ended")


@task(cache_policy=NO_CACHE, persist_result=False)
@tasks.cancelled_with_flow
def run_by_worker(stage: Stage, root: Path, snapshot: Snapshot, gpu_slot: str | None) -> None:
    """Let a worker run a stage, and wait for its end; arguments as in `tasks.run_stage`."""
    given = {"stage": asdict(stage), "snapshot": asdict(snapshot), "parent": flow_run.id}
    with tasks.slot(gpu_slot):
        try:
            child: Any = run_deployment(DEPLOYMENT, parameters=given, timeout=0)
        except ObjectNotFound:
            raise FlowError(f"no deployment {DEPLOYMENT}, run `make deploy` in {root}") from None
        state = child.state
        while state is None or not state.is_final():
            if process.ending.wait(SECONDS_BETWEEN_LOOKS):
                raise FlowError(f"{stage.name}: the flow ends")  # and so does the child
            with (
                contextlib.suppress(PrefectException, httpx.HTTPError, OSError),
                get_client(sync_client=True) as client,
            ):
                state = client.read_flow_run(child.id).state
    if not state.is_completed():
        _, ours, reason = (state.message or str(state.name)).rpartition("FlowError: ")
        if not ours:  # it ended before the flow began, or was killed
            reason = _first_error(child.id) or reason
        raise FlowError(f"{stage.name}: {reason.removeprefix(f'{stage.name}: ')}")


def _first_error(run: UUID) -> str | None:
    """Return the last line of a run's first error, such as why its worker cannot load the flow."""
    errors = LogFilter(
        flow_run_id=LogFilterFlowRunId(any_=[run]), level=LogFilterLevel(ge_=logging.ERROR)
    )
    with get_client(sync_client=True) as client:
        found = client.read_logs(errors, limit=1, sort=LogSort.TIMESTAMP_ASC)
    return found[0].message.rstrip().rpartition("\n")[2] if found else None
