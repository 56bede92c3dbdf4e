"""The engine on a toy graph, under a real Prefect API."""

from __future__ import annotations

import contextlib
import logging
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import TaskRun
from prefect.states import State

from pipelines import process, tasks
from pipelines.errors import FlowError
from pipelines.place import Place
from pipelines.reproduce import reproduce
from tests.pipelines import toy

pytestmark = pytest.mark.usefixtures("prefect_api")


def task_runs(state: State[Any]) -> list[TaskRun]:
    """Return the tasks of a flow run."""
    with get_client(sync_client=True) as client:
        only = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
        return client.read_task_runs(flow_run_filter=only)


def shown(state: State[Any]) -> dict[str, Any]:
    """Return the artifacts of a flow run by key."""
    run = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(flow_run_filter=run)
    return {artifact.key: artifact.data for artifact in found if artifact.key}


@contextlib.contextmanager
def logging_to(lines: list[str]) -> Iterator[None]:
    """Collect what flows and tasks log."""
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(handler.format(record))  # type: ignore[method-assign]
    loggers = [logging.getLogger(f"prefect.{name}_runs") for name in ("flow", "task")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


def log(repo: Path) -> list[str]:
    return (repo / "log").read_text().splitlines()


def test_stages_run_in_order_and_at_the_same_time_and_are_shown(toy_repo: Path):
    state = reproduce(return_state=True)
    assert state.is_completed()
    lines = log(toy_repo)
    assert lines[:2] == ["begin a", "end a"]
    assert {*lines[2:4]} == {"begin b-one", "begin b-two"}
    assert lines[4:] == ["end b", "end b"]
    assert sorted(run.name for run in task_runs(state)) == ["a", "b@one", "b@two", "c"]

    lock = toy.lock(toy_repo)
    (toy_repo / "dvc.lock").unlink()
    toy.run(toy_repo, "dvc", "repro", "--force", "-q")
    assert toy.lock(toy_repo) == lock

    before = shown(state)
    assert before.keys() == {"c", "c-tables-pictures", "c-tables-t", "c-tables-u"}
    assert '"n.a"' in before["c"]
    assert '"fid": "1.5"' in before["c-tables-t"]
    assert before["c-tables-u"] == "# T\n"

    state = reproduce(return_state=True)
    assert state.is_completed()
    assert task_runs(state) == []
    assert shown(state) == before


@pytest.mark.slow
def test_a_slot_is_for_one_stage_at_a_time(toy_repo: Path):
    stages = toy.STAGES.replace(
        "matrix: {v: [one, two]}", "matrix: {v: [one, two]}\n    meta: {gpu: true}"
    )
    (toy_repo / "dvc.yaml").write_text(stages)
    with get_client(sync_client=True) as client:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name="gpu", limit=1))
    reproduce(up_to=["b"], place=Place(gpu_slot="gpu"))
    assert [line.partition("-")[0] for line in log(toy_repo)[2:]] == ["begin b", "end b"] * 2
    assert not (toy_repo / "c.json").exists()


def test_a_failed_stage_stops_only_what_reads_from_it(toy_repo: Path):
    stages = toy.STAGES.replace("cat a.txt > b-", "[ ${item.v} = two ] && cat a.txt > b-")
    (toy_repo / "dvc.yaml").write_text(stages.replace("sleep 2", "sleep 0"))
    message = r"^b@one: failed to reproduce 'b@one'.*; not run: c$"
    lines: list[str] = []
    with logging_to(lines), pytest.raises(FlowError, match=message) as caught:
        reproduce()
    assert (toy_repo / "b-two.txt").exists()
    assert lines.count(str(caught.value)) == 1
    assert lines.count(str(caught.value).partition("; not run")[0]) == 1
    assert not any("Traceback" in line for line in lines)


def test_hints_of_dvc_are_not_logged(toy_repo: Path):
    (toy_repo / "dvc.yaml").write_text("stages: {a: {cmd: echo here > a, outs: [a]}}")
    lines: list[str] = []
    with logging_to(lines):
        reproduce()
    text = "\n".join(lines)
    assert "> echo here > a" in text
    assert not [
        word for word in ("git add", "autostage", "track the changes", "dvc push") if word in text
    ]


@pytest.mark.usefixtures("toy_repo")
def test_the_tasks_of_a_cancelled_flow_are_cancelled(monkeypatch: pytest.MonkeyPatch):
    def run(_command: list[str], _on_line: Callable[[str], None], _cwd: Path) -> int:
        process.end_all()  # as the flow does when it is cancelled
        return 128 + signal.SIGTERM

    monkeypatch.setattr(process, "run", run)
    state = reproduce(up_to=["a"], return_state=True)
    (task,) = task_runs(state)
    assert task.state is not None
    assert task.state.is_cancelled()
    assert "a: ended by signal 15" in str(task.state.message)


@pytest.mark.parametrize(
    ("line", "runs"),
    [
        ("ERROR: Unable to acquire lock. Most likely another DVC process is running", 2),
        ("ERROR: unexpected error - Could not connect to the endpoint URL", 2),
        ("error: train.batch_size is 0, expected 1 or more", 1),
        ("ERROR: failed to reproduce 'a': exited with -9", 1),
    ],
)
@pytest.mark.usefixtures("toy_repo")
def test_only_what_may_pass_is_tried_again(monkeypatch: pytest.MonkeyPatch, line: str, runs: int):
    codes: list[int] = []

    def run(_command: list[str], on_line: Callable[[str], None], _cwd: Path) -> int:
        codes.append(0 if codes else 1)
        on_line(line if codes[-1] else "Running stage 'a':")
        return codes[-1]

    monkeypatch.setattr(process, "run", run)
    monkeypatch.setattr(tasks.run_stage, "retry_delay_seconds", [0, 0, 0])
    state = reproduce(up_to=["a"], return_state=True)
    assert len(codes) == runs
    assert state.is_completed() == (runs > 1)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"up_to": ["trane"]}, "dvc.yaml: no stage 'trane', expected a, b, c"),
        ({"place": {"gpu_slot": "gqu"}}, "no concurrency limit 'gqu'"),
        (
            {"place": {"address": "tcp://host:1"}},
            "place.address goes with place.runner dask or ray",
        ),
    ],
)
def test_wrong_parameters_are_refused_before_anything_starts(
    toy_repo: Path, parameters: dict[str, Any], message: str
):
    state = reproduce(**parameters, return_state=True)
    assert state.is_failed()
    assert message in state.message
    assert "\n" not in state.message
    assert not (toy_repo / "log").exists()
