"""The stages of dvc.yaml and which are stale: read from DVC, kept nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dvc.exceptions import DvcException, NotDvcRepoError
from dvc.lock import LockError
from dvc.repo import Repo
from dvc.rwlock import RWLockFileCorruptedError, RWLockFileFormatError
from dvc.stage import PipelineStage

from pipelines.errors import FlowError, TransientError


@dataclass(frozen=True)
class Out:
    """An output of a stage: its path from the root, and whether DVC calls it a metric."""

    path: str
    metric: bool


@dataclass(frozen=True)
class Stage:
    """A stage: those it reads from, what it writes, whether it asks for a GPU."""

    name: str
    upstream: tuple[str, ...]
    outs: tuple[Out, ...]
    gpu: bool


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
    """Ask DVC for the stages up to some, or all, and which of them are stale.

    Args:
        root: of the repository.
        up_to: names of stages; `ablate_train` stands for all `ablate_train@...`.

    Raises:
        FlowError: no repository, a broken one, or an unknown stage.
        TransientError: another DVC command holds the lock.
    """
    try:
        with Repo(str(root)) as repo:
            _check_root(root, Path(repo.root_dir))
            stages = _ordered(repo, up_to)
            changed = set(repo.status(targets=list(stages))) if stages else set()
    except NotDvcRepoError:
        raise FlowError(f"{root}: not a DVC repository, run in the root of one") from None
    except LockError:
        raise TransientError(f"{root}: another DVC command holds the lock") from None
    except (RWLockFileCorruptedError, RWLockFileFormatError) as error:
        raise FlowError(f"{root}: {_one_line(error)}") from None
    except DvcException as error:
        kind = TransientError if "is busy" in str(error) else FlowError
        raise kind(f"{root}: {_one_line(error)}") from None
    stale: set[str] = set()
    for name, stage in stages.items():
        if name in changed or stale.intersection(stage.upstream):
            stale.add(name)
    return Graph(stages, frozenset(stale))


def _ordered(repo: Repo, up_to: Sequence[str]) -> dict[str, Stage]:
    graph = repo.index.graph
    wanted = {stage for name in up_to for stage in _named(graph, name)} if up_to else set(graph)
    ordered: dict[str, Stage] = {}

    def visit(stage: PipelineStage) -> None:
        if stage.addressing in ordered:
            return
        upstream = sorted(graph.successors(stage), key=lambda other: other.addressing)
        for other in upstream:
            visit(other)
        ordered[stage.addressing] = Stage(
            name=stage.addressing,
            upstream=tuple(other.addressing for other in upstream),
            outs=tuple(Out(out.def_path, bool(out.metric)) for out in stage.outs),
            gpu=bool((stage.meta or {}).get("gpu")),
        )

    for stage in sorted(wanted, key=lambda stage: stage.addressing):
        visit(stage)
    return ordered


def _named(graph: object, name: str) -> list[PipelineStage]:
    found = [stage for stage in graph if stage.addressing.partition("@")[0] == name]
    found = found or [stage for stage in graph if stage.addressing == name]
    if not found:
        known = sorted({stage.addressing.partition("@")[0] for stage in graph})
        raise FlowError(f"dvc.yaml: no stage {name!r}, allowed are {', '.join(known)}")
    return found


def _check_root(root: Path, found: Path) -> None:
    if root.resolve() != found.resolve():
        raise FlowError(f"{root}: not the root of a DVC repository, run in {found}")


def _one_line(error: BaseException) -> str:
    """Return the message of a DVC error and its cause, without DVC's hints."""
    texts = [str(error).partition("\n")[0]]
    if error.__cause__ is not None:
        texts.append(str(error.__cause__).partition("\n")[0])
    return ": ".join(text for text in texts if text)
