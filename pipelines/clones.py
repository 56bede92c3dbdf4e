"""Many hosts, each with its own clone; the remote's run cache transports the results.

Two hosts must not share a tree: DVC identifies the holder of a lock by local process id. A clone
gets the flow's params.yaml and dvc.lock, pulls the stage's inputs, runs it (or finds its result)
and pushes; the flow then restores the stage from the run cache. Only the flow's dvc.lock counts.
"""

from __future__ import annotations

import fcntl
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dvc.exceptions import DvcException
from dvc.repo import Repo

from patchdm.files import replacing
from pipelines.errors import FlowError
from pipelines.git import git
from pipelines.graph import Graph, Stage

Talk = Callable[[str, Sequence[str], Path], list[str]]

CARRIED = ("params.yaml", "dvc.lock")
"""Files that a clone takes from the flow; the commit has all others."""


@dataclass(frozen=True)
class Snapshot:
    """The state of the flow's tree: host, folder, commit, and the content of CARRIED."""

    host: str
    root: str
    revision: str
    files: dict[str, str]


def take_snapshot(root: Path) -> Snapshot:
    """Describe a tree for `run_stage`; refuse one that differs from its commit."""
    if changed := _changed(root):
        raise FlowError(
            f"{root}: {changed[0]} is not committed, clones on other hosts would lack it"
        )
    present = [name for name in CARRIED if (root / name).exists()]
    files = {name: (root / name).read_text() for name in present}
    return Snapshot(socket.gethostname(), str(root), _revision(root), files)


def check_remote(root: Path, talk: Talk) -> None:
    """Raise a FlowError if a repository has no DVC remote that can be written and read."""
    try:
        with Repo(str(root)) as repo:
            remote = repo.config["core"].get("remote")
    except DvcException as error:
        raise FlowError(f"{root}: {error}") from None
    if not remote:
        raise FlowError(f"{root}: no default DVC remote, other hosts need one: see docs/remotes.md")
    talk("remote", ["pipelines.remote"], root)


def push_inputs(graph: Graph, root: Path, talk: Talk) -> None:
    """Push the outputs of fresh stages that stale stages read. Fails early if the remote does."""
    read = {other for stage in graph.pending for other in stage.upstream} - graph.stale
    if read:
        talk("push", dvc("push", "--run-cache", *sorted(read)), root)


def run_stage(stage: Stage, snapshot: Snapshot, talk: Talk) -> None:
    """Run a stage in the clone at the current folder, one stage at a time, and push the result."""
    root = Path.cwd()
    where = f"{socket.gethostname()}:{root}"
    if not (root / ".dvc").is_dir():
        raise FlowError(f"{where}: not a DVC repository, start the worker in its clone")
    if (socket.gethostname(), str(root)) == (snapshot.host, snapshot.root):
        raise FlowError(f"{where}: the flow's own tree, start the worker in a clone of its own")
    (root / ".dvc/tmp").mkdir(exist_ok=True)
    with (root / ".dvc/tmp/flow-stage.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _set_to(root, snapshot, where)
        if stage.upstream:
            talk(stage.name, ["stages._outputs"], root)
            talk(stage.name, dvc("pull", "--force", *stage.upstream), root)
        talk(stage.name, dvc("repro", "--single-item", "--pull", stage.name), root)
        talk(stage.name, dvc("push", "--run-cache", stage.name), root)


def restore(stage: str, root: Path, talk: Talk) -> None:
    """Take the result of a stage that a clone has run from the run cache, which must have it."""
    lines = talk(stage, dvc("repro", "--single-item", "--pull", stage), root)
    if any(line.startswith("Running stage") for line in lines):
        raise FlowError(f"stage {stage}: the clone's run is not that of {root}, it ran here again")


def dvc(*arguments: str) -> list[str]:
    """Return a DVC command that waits for other DVC commands."""
    return ["dvc", "--wait-for-lock", *arguments]


def _set_to(root: Path, snapshot: Snapshot, where: str) -> None:
    """Give a clone the state of the flow's tree."""
    revision = _revision(root)
    if revision != snapshot.revision:
        raise FlowError(
            f"{where}: the clone is at {revision[:12]}, the flow at {snapshot.revision[:12]}; "
            f"run `git fetch && git checkout {snapshot.revision[:12]}` there"
        )
    if changed := _changed(root):
        raise FlowError(f"{where}: {changed[0]} differs from the commit, restore it")
    for name in CARRIED:
        if name in snapshot.files:
            with replacing(root / name) as fresh:
                fresh.write_text(snapshot.files[name])
        else:
            (root / name).unlink(missing_ok=True)


def _revision(root: Path) -> str:
    return git(root, "rev-parse", "HEAD").strip()


def _changed(root: Path) -> list[str]:
    """Return changed files of the commit, except CARRIED and the .gitignore files of DVC."""
    lines = git(root, "status", "--porcelain", "--no-renames", "-uno").splitlines()
    paths = [line[3:] for line in lines]
    return [path for path in paths if path not in CARRIED and Path(path).name != ".gitignore"]
