"""The stages of dvc.yaml and which are stale, read from DVC."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dvc.exceptions import DvcException, NotDvcRepoError
from dvc.lock import LockError
from dvc.repo import Repo

from patchdm.errors import mistake
from pipelines import process
from pipelines.errors import FlowError, TransientError


@dataclass(frozen=True)
class Out:
    """An output of a stage: its path from the root, and whether DVC calls it a metric."""

    path: str
    metric: bool


@dataclass(frozen=True)
class Stage:
    """A stage: the stages it reads from, its outputs, whether it uses a GPU."""

    name: str
    upstream: tuple[str, ...]
    outs: tuple[Out, ...]
    gpu: bool
    here: bool
    """Whether its output stays when it runs again, so that no run cache transports it."""


@dataclass(frozen=True)
class Graph:
    """Stages by name, upstream first, and the names of those that must run."""

    stages: dict[str, Stage]
    stale: frozenset[str]

    @property
    def pending(self) -> list[Stage]:
        """The stale stages, upstream first."""
        return [stage for name, stage in self.stages.items() if name in self.stale]


def read_graph(root: Path, up_to: Sequence[str] = ()) -> Graph:
    """Ask DVC for stages and which of them are stale.

    Args:
        up_to: last stages; `ablate_train` means all `ablate_train@...`; empty: all stages.

    Raises:
        FlowError: no repository, a broken one, or an unknown stage.
        TransientError: another DVC command holds the lock.
    """
    with _dvc(root) as repo:
        stages = _ordered(repo, up_to)
        always = {stage.name for stage in repo.index.stages if stage.always_changed}
    for name in always.intersection(stages):
        _look(name, root)
    with _dvc(root) as repo:
        changed = _changed(repo, stages)
    stale: set[str] = set()
    for name, stage in stages.items():
        if name in changed or stale.intersection(stage.upstream):
            stale.add(name)
    return Graph(stages, frozenset(stale))


@contextlib.contextmanager
def _dvc(root: Path) -> Iterator[Repo]:
    """Open a repository; errors of DVC become FlowErrors."""
    try:
        with Repo(str(root)) as repo:
            if root.resolve() != Path(repo.root_dir).resolve():
                raise FlowError(f"{root}: not the root of a DVC repository, run in {repo.root_dir}")
            yield repo
    except NotDvcRepoError:
        raise FlowError(f"{root}: not a DVC repository, run in the root of one") from None
    except LockError as error:
        busy = _one_line(error) if "is busy" in str(error) else "another DVC command holds the lock"
        raise TransientError(f"{root}: {busy}") from None
    except DvcException as error:
        raise FlowError(f"{root}: {_one_line(error)}") from None
    except OSError as error:  # such as a read-only disk
        raise FlowError(mistake(error) or f"{root}: {error}") from None


def _look(stage: str, root: Path) -> None:
    """Run a stage that DVC always runs, so that DVC notices whether its output changes."""
    lines: list[str] = []
    if process.run([f"stages.{stage}"], lines.append, root):
        reason = lines[-1] if lines else "killed"
        raise FlowError(f"{stage}: {reason.removeprefix('error: ')}")


def _changed(repo: Repo, stages: Iterable[str]) -> set[str]:
    """Return the stages whose files or parameters differ from dvc.lock."""
    addresses = {s.addressing: s.name for s in repo.index.stages if s.name in stages}
    status = repo.status(targets=list(addresses)) if addresses else {}
    unknown = ["always changed"]  # but `_look` has just run it
    return {name for address, name in addresses.items() if status.get(address, unknown) != unknown}


def _ordered(repo: Repo, up_to: Sequence[str]) -> dict[str, Stage]:
    """Return stages, or those of a matrix, and what they read from: upstream first."""
    graph = repo.index.graph
    by_name = {stage.name: stage for stage in graph}
    groups = {name: name.partition("@")[0] for name in by_name}
    for name in up_to:
        if name not in {*groups, *groups.values()}:
            known = ", ".join(sorted(set(groups.values())))
            raise FlowError(f"dvc.yaml: no stage {name!r}, expected {known}")
    ordered: dict[str, Stage] = {}

    def visit(name: str) -> None:
        if name in ordered:
            return
        stage = by_name[name]
        upstream = sorted(other.name for other in graph.successors(stage))
        for other in upstream:
            visit(other)
        ordered[name] = Stage(
            name=name,
            upstream=tuple(upstream),
            outs=tuple(Out(out.def_path, bool(out.metric)) for out in stage.outs),
            gpu=bool((stage.meta or {}).get("gpu")),
            here=any(out.persist for out in stage.outs),
        )

    for name in sorted(name for name in groups if not up_to or {name, groups[name]} & set(up_to)):
        visit(name)
    return ordered


def _one_line(error: BaseException) -> str:
    """Return the message of a DVC error and its cause, without DVC's hints."""
    texts = [str(one or "").partition("\n")[0] for one in (error, error.__cause__)]
    return ": ".join(text for text in texts if text)
