"""Real servers and workers for the slow tests: started as a user starts them, ended by their id."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.conftest import REPO
from tests.pipelines import toy
from tests.stages.models import holds


def clone(folder: Path, preset: str = "smoke") -> Path:
    """Make a repository of this one's files, committed, with a preset and nothing run."""
    for name in toy.run(REPO, "git", "ls-files", "-co", "--exclude-standard").splitlines():
        if (REPO / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPO / name, folder / name)
    shutil.copy(REPO / f"presets/{preset}.yaml", folder / "params.yaml")
    (folder / "dvc.lock").unlink(missing_ok=True)
    toy.run(folder, "git", "init", "-q")
    toy.commit(folder)
    borrow_environment(folder)
    return folder


def borrow_environment(folder: Path) -> None:
    """Give a clone this repository's environment, so that `make` finds it installed."""
    venv = folder / ".venv"
    venv.mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (venv / name).symlink_to(Path(sys.prefix) / name)
    _note_place(folder)


def copy(clone: Path, folder: Path) -> Path:
    """Copy a clone that has borrowed an environment."""
    shutil.copytree(clone, folder, symlinks=True)
    _note_place(folder)
    return folder


def _note_place(folder: Path) -> None:
    """Say that the environment of a clone is in its place, or `make` would relocate it."""
    (folder / ".venv/installed").write_text(f"{folder.resolve()}\n")


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Return what a condition gives as soon as it holds."""
    deadline = time.monotonic() + seconds
    while not (found := holds(condition)):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.1)
    return found


@contextlib.contextmanager
def running(
    folder: Path, log: Path, *command: str, env: Mapping[str, str]
) -> Iterator[psutil.Process]:
    """Run a command in the background; end it and all it started."""
    with log.open("w") as out:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=env,
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
        family = psutil.Process(process.pid)
        try:
            yield family
        finally:
            members = descendants(family)
            for member in members:
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.send_signal(signal.SIGKILL)
            process.kill()
            process.wait()


def descendants(process: psutil.Process) -> list[psutil.Process]:
    """Return the living processes below one."""
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def alive(processes: list[psutil.Process]) -> list[str]:
    """Return the command lines of those that still run."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
    return found


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Server:
    """A Prefect server and the environment in which commands find it."""

    env: dict[str, str]
    process: psutil.Process
    log: Path

    @property
    def url(self) -> str:
        """Of the API."""
        return self.env["PREFECT_API_URL"]

    def start_run(self, deployment: str, *arguments: str) -> str:
        """`prefect deployment run`; return the flow run's id."""
        command = ["prefect", "deployment", "run", deployment, *arguments]
        done = subprocess.run(
            command, env=self.env, cwd="/", capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.split("UUID: ")[1].split()[0]

    def state(self, run: str) -> tuple[str, str]:
        """Return type and message of a flow run's state."""
        state = (
            httpx.get(f"{self.url}/flow_runs/{run}", timeout=60).raise_for_status().json()["state"]
        )
        return state["type"], state["message"] or ""

    def ended(self, run: str, seconds: float) -> tuple[str, str]:
        """Wait until a flow run is over."""
        final = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
        wait_for(lambda: self.state(run)[0] in final, seconds, f"end of {run}")
        return self.state(run)

    def states(self, run: str) -> dict[str, datetime]:
        """Return when a flow run first entered each of its states, by name."""
        found = httpx.get(f"{self.url}/flow_run_states/", params={"flow_run_id": run}, timeout=60)
        times: dict[str, datetime] = {}
        for state in found.raise_for_status().json():
            moment = datetime.fromisoformat(state["timestamp"])
            times[state["name"]] = min(moment, times.get(state["name"], moment))
        return times

    def tasks(self, run: str) -> dict[str, str]:
        """Return the types of the states of a flow run's tasks, by name."""
        query = {"flow_runs": {"id": {"any_": [run]}}}
        found = httpx.post(f"{self.url}/task_runs/filter", json=query, timeout=60)
        return {task["name"]: task["state_type"] for task in found.raise_for_status().json()}

    def logs(self, run: str) -> list[str]:
        """Return the messages a flow run logged, in order, once no more come for 5 s.

        Prefect sends them every 2 s, the last ones after the run has ended.
        """
        query = {"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200, "sort": "TIMESTAMP_ASC"}
        before: list[str] | None = None
        while True:
            answer = httpx.post(f"{self.url}/logs/filter", json=query, timeout=60)
            found = [entry["message"] for entry in answer.raise_for_status().json()]
            if found == before:
                return found
            before = found
            time.sleep(5)


@contextlib.contextmanager
def server(folder: Path, home: Path, env: dict[str, str] | None = None) -> Iterator[Server]:
    """`make server`: on a fresh database, or (an environment given) where another one was."""
    port = free_port()
    env = env or toy.environment(
        PREFECT_HOME=str(home),
        PREFECT_API_URL=f"http://127.0.0.1:{port}/api",
        PREFECT_SERVER_API_PORT=str(port),
        DO_NOT_TRACK="1",
    )
    home.mkdir(exist_ok=True)
    log = home / "server.log"
    with running(folder, log, "make", "server", env=env) as process:
        wait_for(lambda: healthy(env["PREFECT_API_URL"]), 400, f"server, see {log}")
        yield Server(env, process, log)


def healthy(url: str) -> bool:
    """Whether an API answers."""
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{url}/health").is_success
    return False


@contextlib.contextmanager
def worker(prefect: Server, folder: Path, pool: str = "local") -> Iterator[psutil.Process]:
    """`make worker` in a clone."""
    log = folder.parent / f"worker-{folder.name}.log"
    command = ["make", "worker", f"POOL={pool}"]
    with running(folder, log, *command, env=prefect.env) as process:
        wait_for(lambda: "started!" in log.read_text(), 60, f"worker, see {log}")
        yield process


def worker_process(started: psutil.Process) -> psutil.Process:
    """Return Prefect's worker below `make worker`."""
    family = [started, *descendants(started)]
    (found,) = [process for process in family if process.cmdline()[2:4] == ["worker", "start"]]
    return found


def kill(process: psutil.Process) -> None:
    """SIGKILL."""
    os.kill(process.pid, signal.SIGKILL)
