"""Whatever is killed: no orphan, a true state in Prefect, and the same bytes when run again."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.pipelines import services, toy

pytestmark = pytest.mark.slow

STAGE = "train_patchdm"
UP_TO = f'up_to=["{STAGE}"]'


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with the smoke preset, run up to the training."""
    folder = services.clone(tmp_path_factory.mktemp("kills") / "prepared")
    params = folder / "params.yaml"
    longer = params.read_text().replace("images_seen: 256", "images_seen: 2048")
    params.write_text(longer)  # long enough to be met in the middle
    toy.run(folder, "dvc", "repro", "-q", "cache_features")
    return folder


@pytest.fixture(scope="module")
def expected(prepared: Path) -> dict[str, Any]:
    """What dvc.lock says of an undisturbed training: the hashes of its outputs."""
    folder = prepared.with_name("undisturbed")
    services.copy(prepared, folder)
    toy.run(folder, "dvc", "repro", "-q", STAGE)
    return toy.lock(folder)


@pytest.fixture(scope="module")
def server(prepared: Path) -> Iterator[services.Server]:
    with services.server(prepared, prepared.with_name("home")) as server:
        toy.run(prepared, "make", "deploy", env=server.env)
        yield server


@pytest.fixture
def clone(prepared: Path, tmp_path: Path) -> Path:
    return services.copy(prepared, tmp_path / "clone")


def in_training(worker: psutil.Process, clone: Path) -> dict[str, psutil.Process]:
    """Wait until the stage trains; return the processes of the run by what they are."""
    services.wait_for(
        lambda: any(clone.glob(f".state/{STAGE}/*/*.pt")), 240, "a checkpoint of the stage"
    )
    family = {}
    for process in services.descendants(worker):
        words = process.cmdline()
        for name, mark in (
            ("engine", "prefect.engine"),
            ("engine", "prefect.flow_engine"),
            ("stage", f"stages.{STAGE}"),
            ("supervisor", "supervise.py"),
        ):
            if mark in words or Path(words[1] if len(words) > 1 else "").name == mark:
                family.setdefault(name, process)
        if words[1:3] == ["-m", "dvc"]:
            family["dvc"] = process
    assert {"engine", "dvc", "stage", "supervisor"} <= family.keys(), family
    return family


def assert_gone(family: dict[str, psutil.Process], *, after: float = 5) -> None:
    time.sleep(after)
    assert services.alive(list(family.values())) == []


def run_again(server: services.Server, clone: Path, expected: dict[str, Any]) -> None:
    """The same run ends as the undisturbed one did."""
    with services.worker(server, clone):
        run = server.start_run("reproduce/local", "--param", UP_TO)
        assert server.ended(run, 300)[0] == "COMPLETED"
    assert toy.lock(clone) == expected
    assert toy.run(clone, "dvc", "status", STAGE).startswith("Data and pipelines are up to date")


@pytest.mark.parametrize(
    ("victim", "state"),
    [("stage", "FAILED"), ("dvc", "FAILED"), ("engine", "CRASHED")],
)
def test_a_killed_part_of_a_run(
    server: services.Server, clone: Path, expected: dict[str, Any], victim: str, state: str
):
    with services.worker(server, clone) as worker:
        run = server.start_run("reproduce/local", "--param", UP_TO)
        family = in_training(worker, clone)
        services.kill(family[victim])
        parts = {name: part for name, part in family.items() if name != "engine"}
        assert_gone(parts if victim != "engine" else family)
        kind, message = server.ended(run, 120)
    assert kind == state
    assert "\n" not in message
    run_again(server, clone, expected)


def test_a_killed_worker(server: services.Server, clone: Path, expected: dict[str, Any]):
    with services.worker(server, clone) as worker:
        run = server.start_run("reproduce/local", "--param", UP_TO)
        family = in_training(worker, clone)
        services.kill(services.worker_process(worker))
        assert_gone(family)
        assert server.ended(run, 120)[0] == "CRASHED"
    run_again(server, clone, expected)


def test_a_cancelled_run(server: services.Server, clone: Path, expected: dict[str, Any]):
    with services.worker(server, clone) as worker:
        run = server.start_run("reproduce/local", "--param", UP_TO)
        family = in_training(worker, clone)
        toy.run(clone, "prefect", "flow-run", "cancel", run, env=server.env)
        start = time.monotonic()
        assert server.ended(run, 120)[0] == "CANCELLED"
        assert_gone(family, after=max(0, 5 - (time.monotonic() - start)))
        states = server.states(run)
        assert (states["Cancelled"] - states["Cancelling"]).total_seconds() < 5
        services.wait_for(lambda: server.tasks(run) == {STAGE: "CANCELLED"}, 10, "task's state")
    run_again(server, clone, expected)


def test_a_killed_server(prepared: Path, clone: Path, expected: dict[str, Any]):
    home = clone.with_name("home")
    with services.server(prepared, home) as first:
        toy.run(prepared, "make", "deploy", env=first.env)
        with services.worker(first, clone) as worker:
            run = first.start_run("reproduce/local", "--param", UP_TO)
            family = in_training(worker, clone)
            for process in [*services.descendants(first.process), first.process]:
                services.kill(process)
            time.sleep(3)
            with services.server(prepared, home, first.env) as second:
                assert second.ended(run, 240)[0] == "COMPLETED"
                assert_gone(family)
                assert toy.lock(clone) == expected
                run_again(second, clone, expected)


def test_ten_kills_at_random_moments(prepared: Path, tmp_path: Path):
    """Of `python -m pipelines.reproduce` on the whole graph, without a server of its own."""
    whole = tmp_path / "whole"
    services.copy(prepared, whole)
    toy.run(whole, "dvc", "repro", "-q")
    clone = services.copy(prepared, tmp_path / "clone")
    env = toy.environment(PREFECT_HOME=str(tmp_path / "home"), DO_NOT_TRACK="1")
    command = ["python", "-m", "pipelines.reproduce"]
    moments = random.Random(6)
    for number in range(10):
        with (tmp_path / f"{number}.log").open("w") as log:
            flow = subprocess.Popen(command, cwd=clone, env=env, stdout=log, stderr=log)
        time.sleep(moments.uniform(5, 60))
        family = services.descendants(psutil.Process(flow.pid))
        flow.send_signal(signal.SIGKILL)
        flow.wait()
        time.sleep(5)
        assert services.alive(family) == [], number
    toy.run(clone, *command, env=env)
    assert toy.lock(clone) == toy.lock(whole)
