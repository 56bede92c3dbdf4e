"""Two clones, two workers in processes of their own, one S3 server: nothing is computed twice."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import REPO
from tests.pipelines import s3, services, toy

pytestmark = pytest.mark.slow

# Every run of a stage adds a line to a log that all clones share.
COUNTED = toy.STAGES.replace(">> log", ">> LOG").replace(
    "mkdir tables", "echo c >> LOG; mkdir tables"
)


@pytest.fixture
def repo(tmp_path: Path, bucket: s3.S3) -> Path:
    """A toy repository with an S3 remote."""
    stages = COUNTED.replace("LOG", str(tmp_path / "log"))
    repo = toy.make(tmp_path / "repo", stages)
    s3.use_remote(repo, f"s3://{s3.BUCKET}/{tmp_path.name}", bucket.url)
    for name in ("Makefile", "prefect.yaml", "automations.yaml", "pyproject.toml"):
        shutil.copy(REPO / name, repo)
    for name in ("pipelines", "tools"):
        shutil.copytree(REPO / name, repo / name)
    (repo / "constraints.txt").touch()
    (repo / ".gitignore").write_text("/.venv/\n__pycache__/\n")
    toy.commit(repo)
    return repo


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3.S3]:
    with s3.serve(tmp_path_factory.mktemp("s3") / "data") as bucket:
        yield bucket


@pytest.fixture
def clones(repo: Path) -> list[Path]:
    """Two clones next to the repository."""
    folders = [repo.with_name(f"clone{number}") for number in (1, 2)]
    for folder in folders:
        toy.run(repo, "git", "clone", "-q", str(repo), str(folder))
    return folders


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """The environment of a worker that has all packages but this one."""
    blocked = "import sys\nfor name in ('patchdm', 'pipelines'): sys.modules[name] = None\n"
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare/sitecustomize.py").write_text(blocked)
    return {"PYTHONPATH": str(tmp_path / "bare")}


def reproduce(repo: Path, bucket: s3.S3, *parameters: str) -> subprocess.CompletedProcess[str]:
    env = bucket.env | {"PREFECT_HOME": str(repo.parent / "home"), "DO_NOT_TRACK": "1"}
    command = ["python", "-m", "pipelines.reproduce", *parameters]
    return subprocess.run(command, cwd=repo, env=env, capture_output=True, text=True, check=False)


def serial(repo: Path) -> dict[str, Any]:
    """Return the dvc.lock of a plain `dvc repro` in a fresh clone."""
    folder = repo.with_name("serial")
    toy.run(repo, "git", "clone", "-q", str(repo), str(folder))
    toy.run(folder, "dvc", "repro", "-q")
    return toy.lock(folder)


def check(repo: Path) -> None:
    """Each stage ran once, somewhere, and the lock is that of a serial run."""
    log = repo.with_name("log")
    begun = [line for line in log.read_text().splitlines() if not line.startswith("end")]
    assert sorted(begun) == ["begin a", "begin b-one", "begin b-two", "c"]
    assert toy.lock(repo) == serial(repo)
    assert (repo / "c.json").is_file()


def test_dask_workers_in_clones(repo: Path, clones: list[Path], bucket: s3.S3):
    port = services.free_port()
    address = f"tcp://127.0.0.1:{port}"
    scheduler = ["dask", "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    worker = ["dask", "worker", address, "--nthreads", "1", "--no-dashboard"]
    with ExitStack() as stack:
        for folder, command in ((repo, scheduler), *((clone, worker) for clone in clones)):
            log = folder.with_name(f"dask-{folder.name}.log")
            stack.enter_context(services.running(folder, log, *command, env=bucket.env))
        done = reproduce(repo, bucket, "place.runner=dask", f"place.address={address}")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    check(repo)


def test_ray_nodes_in_clones(repo: Path, clones: list[Path], bucket: s3.S3):
    port = services.free_port()
    address = f"127.0.0.1:{port}"
    env = bucket.env | {"RAY_USAGE_STATS_ENABLED": "0"}
    head = ["ray", "start", "--block", "--head", f"--port={port}", "--num-cpus=0",
            "--include-dashboard=false"]  # fmt: skip
    node = ["ray", "start", "--block", f"--address={address}", "--num-cpus=1"]
    with ExitStack() as stack:
        for folder, command in ((repo, head), *((clone, node) for clone in clones)):
            log = folder.with_name(f"ray-{folder.name}.log")
            stack.enter_context(services.running(folder, log, *command, env=env))
            services.wait_for(
                lambda log=log: "Ray runtime started" in log.read_text(), 90, str(log)
            )
        done = reproduce(repo, bucket, "place.runner=ray", f"place.address={address}")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    check(repo)


def test_prefect_workers_in_clones(repo: Path, clones: list[Path], bucket: s3.S3):
    for folder in (repo, *clones):
        services.borrow_environment(folder)
    with ExitStack() as stack:
        server = stack.enter_context(services.server(repo, repo.with_name("home")))
        server.env.update(bucket.env)
        toy.run(repo, "make", "deploy", env=server.env)
        for clone in clones:
            stack.enter_context(services.worker(server, clone, pool="clones"))
        stack.enter_context(services.worker(server, repo))
        run = server.start_run("reproduce/local", "--param", 'place={"runner": "workers"}')
        state = server.ended(run, 600)
        assert state[0] == "COMPLETED", (state, server.logs(run))
    check(repo)


def test_cancelling_a_flow_cancels_what_workers_run_for_it(
    repo: Path, clones: list[Path], bucket: s3.S3
):
    slow = (repo / "dvc.yaml").read_text().replace("sleep 2", "sleep 300")
    (repo / "dvc.yaml").write_text(slow)
    toy.commit(repo)
    for clone in clones:
        toy.run(clone, "git", "pull", "-q")
    for folder in (repo, *clones):
        services.borrow_environment(folder)
    log = repo.with_name("log")
    with ExitStack() as stack:
        server = stack.enter_context(services.server(repo, repo.with_name("home")))
        server.env.update(bucket.env)
        toy.run(repo, "make", "deploy", env=server.env)
        workers = [stack.enter_context(services.worker(server, repo))]
        workers += [stack.enter_context(services.worker(server, c, pool="clones")) for c in clones]
        run = server.start_run("reproduce/local", "--param", 'place={"runner": "workers"}')
        services.wait_for(
            lambda: log.exists() and log.read_text().count("begin b-") == 2, 300, "both stages"
        )
        stages = [
            process
            for worker in workers
            for process in services.descendants(worker)
            if "sleep" in process.cmdline() or "dvc" in process.cmdline()
        ]
        assert len(stages) >= 4
        toy.run(repo, "prefect", "flow-run", "cancel", run, env=server.env)
        assert server.ended(run, 120)[0] == "CANCELLED"
        services.wait_for(lambda: services.alive(stages) == [], 5, "end of the stages")
        query = {"flows": {"name": {"any_": ["stage"]}}}

        def kinds() -> list[str]:
            found = httpx.post(f"{server.url}/flow_runs/filter", json=query).raise_for_status()
            return sorted(entry["state_type"] for entry in found.json())

        services.wait_for(lambda: kinds() == ["CANCELLED", "CANCELLED", "COMPLETED"], 120, "states")
    assert log.read_text().count("begin b-") == 2


@pytest.mark.parametrize("runner", ["dask", "ray"])
def test_a_cluster_without_the_package_is_one_line(
    repo: Path, tmp_path: Path, bucket: s3.S3, bare: dict[str, str], runner: str
):
    port = services.free_port()
    address = f"127.0.0.1:{port}"
    commands = {
        "dask": [
            ["dask", "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"],
            ["dask", "worker", address, "--nthreads", "1", "--no-dashboard"],
        ],
        "ray": [
            ["ray", "start", "--block", "--head", f"--port={port}", "--num-cpus=1",
             "--include-dashboard=false"],
        ],
    }  # fmt: skip
    env = bucket.env | bare | {"RAY_USAGE_STATS_ENABLED": "0"}
    with ExitStack() as stack:
        for number, command in enumerate(commands[runner]):
            log = tmp_path / f"bare-{number}.log"
            stack.enter_context(services.running(tmp_path, log, *command, env=env))
        ready = "Registered to" if runner == "dask" else "Ray runtime started"
        services.wait_for(lambda: ready in log.read_text(), 90, str(log))
        done = reproduce(repo, bucket, f"place.runner={runner}", f"place.address={address}")
    assert done.returncode == 1
    (line,) = [text for text in done.stderr.splitlines() if text.startswith("error: ")]
    assert "a: ModuleNotFoundError: No module named 'pipelines" in line


def test_a_prefect_worker_without_the_package_is_one_line(
    repo: Path, tmp_path: Path, bucket: s3.S3
):
    services.borrow_environment(repo)
    (tmp_path / "bare").mkdir()
    with ExitStack() as stack:
        server = stack.enter_context(services.server(repo, repo.with_name("home")))
        server.env.update(bucket.env)
        toy.run(repo, "make", "deploy", env=server.env)
        command = ["prefect", "worker", "start", "--type", "process", "--pool", "clones"]
        env = server.env | {"PATCHDM_CLONE": str(tmp_path / "bare")}
        stack.enter_context(
            services.running(tmp_path / "bare", tmp_path / "bare.log", *command, env=env)
        )
        stack.enter_context(services.worker(server, repo))
        run = server.start_run("reproduce/local", "--param", 'place={"runner": "workers"}')
        kind, message = server.ended(run, 300)
    assert kind == "FAILED"
    assert "FlowError: a: " in message
    assert "pipelines/stage.py" in message
    assert "\n" not in message
