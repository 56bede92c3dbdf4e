"""The engine on a toy graph, under a real Prefect API."""

from __future__ import annotations

from collections.abc import Callable
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

    state = reproduce(return_state=True)
    assert state.is_completed()
    assert task_runs(state) == []

    with get_client(sync_client=True) as client:
        found = {artifact.key: artifact for artifact in client.read_artifacts()}
    assert {"c-c", "c-tables", "c-tables-t", "c-tables-u"} <= found.keys()
    assert '"n.a"' in found["c-c"].data
    assert '"fid": "1.5"' in found["c-tables-t"].data
    assert found["c-tables-u"].data == "# T\n"
    assert f"[tables/sheets](file://{toy_repo}/tables/sheets)" in found["c-tables"].data


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
    with pytest.raises(FlowError, match=message):
        reproduce()
    assert (toy_repo / "b-two.txt").exists()


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
