"""Flow sample-at-scale: a range of seeds in shards, each a task; then one manifest of all.

Each task has its own folder: within one, processes claim shards by flock, which is not known to
work between hosts on every shared storage.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from prefect import Task, flow, task
from pydantic import BaseModel, ConfigDict, Field

from patchdm.config import load_params
from pipelines import tasks
from pipelines.command import main
from pipelines.errors import FlowError
from pipelines.estimate import PARAMS, show_estimate
from pipelines.merge import DAMAGED
from pipelines.orphans import begin
from pipelines.place import Place, gpus, task_runner
from pipelines.schedule import Future, run_in_order

FINISH = "verify and merge"


class Sampling(BaseModel):
    """Options of `patchdm sample`; null is its default."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    size: Annotated[str, Field(pattern=r"^\d+x\d+$")] | None = None
    """WIDTHxHEIGHT in pixels."""
    solver: str | None = None
    """ddim, dpm-solver++ or unipc."""
    steps: Annotated[int, Field(ge=1)] | None = None
    """Solver steps."""
    batch: Annotated[int, Field(ge=1)] | None = None
    """Images denoised together."""
    format: Literal["png", "webdataset"] | None = None
    """PNG files or tar files."""

    def arguments(self) -> list[str]:
        """Return the command's arguments."""
        given = self.model_dump(exclude_none=True)
        return [text for name, value in given.items() for text in (f"--{name}", str(value))]


@flow(name="sample-at-scale", persist_result=False)
def sample_at_scale(
    seeds: Annotated[str, Field(pattern=r"^\d+:\d+$")],
    out: str,
    shards: Annotated[int, Field(ge=1, le=100_000)] = 8,
    model: str = "data/models",
    sampling: Sampling = Sampling(),  # noqa: B008
    place: Place = Place(),  # noqa: B008
    tflops: Annotated[float, Field(gt=0)] = 0.05,
) -> None:
    """Sample one image per seed. A repeated run checks existing images and makes missing ones.

    Args:
        seeds: FIRST:END, END excluded.
        out: folder of the images: OUT/000000/ has the shard that starts with seed 0,
            OUT/manifest.parquet lists every image.
        shards: number of tasks, each with a folder in OUT.
        model: folder of the models, as in `patchdm sample`.
        sampling: options of `patchdm sample`.
        place: where tasks run and how many at a time; with an address, `out` and `model` are
            absolute paths on all hosts.
        tflops: 10^12 operations per second that the device achieves, for the estimate.
    """
    root = begin()
    first, end = (int(text) for text in seeds.split(":"))
    if first >= end:
        raise FlowError(f"seeds is {seeds}, expected FIRST:END with FIRST < END")
    _check_place(place, out, model)
    runner = task_runner(place)
    tasks.check_slot(place.gpu_slot)
    show_estimate(root, load_params(root / PARAMS), tflops, samples=end - first)
    commands = {
        (name := f"{shard.start:06d}"): [
            *("patchdm", "sample", model, "--seeds", f"{shard.start}:{shard.stop}"),
            *("--out", str(Path(out) / name), *sampling.arguments()),
        ]
        for shard in cut(range(first, end), shards)
    }
    numbers = {name: number for number, name in enumerate(commands)}
    where = {"root": None if place.has_clones else root, "gpu_slot": place.gpu_slot}

    def submit(name: str, done_before: list[Future]) -> Future:
        work: Task[..., Any] = finish
        parameters: dict[str, Any] = {"commands": commands, "out": root / out}
        if name != FINISH:
            work = draw.with_options(name=name, task_run_name=name)
            parameters = {"name": name, "command": commands[name], "number": numbers[name]}
        with gpus(place):
            return runner.submit(work, parameters | where, wait_for=done_before)

    before = dict.fromkeys(commands, frozenset[str]()) | {FINISH: frozenset(commands)}
    run_in_order(before, submit, runner=runner, concurrency=place.concurrency)


def _check_place(place: Place, out: str, model: str) -> None:
    if place.runner == "workers":
        raise FlowError("place.runner is workers, expected threads, dask and ray")
    for name, path in (("out", out), ("model", model)):
        if place.has_clones and not Path(path).is_absolute():
            raise FlowError(
                f"{name} is {path}, expected with place.address: an absolute path on all hosts"
            )


@task(**tasks.OPTIONS)
@tasks.cancelled_with_flow
def draw(
    name: str, command: Sequence[str], number: int, root: Path | None, gpu_slot: str | None
) -> None:
    """Run the command of a shard: the GPUs that this host shows take the shards in turn.

    Args:
        root: folder in which the command runs; None: the task's working folder.
        gpu_slot: as in `Place`.
    """
    import torch  # noqa: PLC0415 - takes seconds

    gpus = torch.cuda.device_count()
    device = ["--device", f"cuda:{number % gpus}"] if gpus else []
    with tasks.slot(gpu_slot):
        tasks.talk(name, [*command, *device], root or Path.cwd())


@task(name=FINISH, task_run_name=FINISH, **tasks.OPTIONS)
@tasks.cancelled_with_flow
def finish(
    commands: dict[str, list[str]], out: Path, root: Path | None, gpu_slot: str | None
) -> None:
    """Check every image against its hash, regenerate damaged ones, and write the manifest.

    Args:
        commands: of the shards' tasks, by shard.
        out: folder of the shards.
        root, gpu_slot: as in `draw`.

    Raises:
        FlowError: a command failed, or a shard is damaged again.
    """
    where = root or Path.cwd()
    verify = ["pipelines.merge", str(out), *commands]
    with tasks.slot(gpu_slot):
        repaired: set[str] = set()
        while damaged := _damaged(tasks.talk(FINISH, verify, where)):
            if again := damaged & repaired:
                raise FlowError(f"{out / min(again)}: damaged again after its repair")
            for name in sorted(damaged):
                tasks.talk(name, commands[name], where)
            repaired |= damaged


def _damaged(lines: Sequence[str]) -> set[str]:
    """Return the shards that `pipelines.merge` prints; only the last ones, if they are many."""
    return {line.removeprefix(DAMAGED) for line in lines if line.startswith(DAMAGED)}


def cut(seeds: range, shards: int) -> list[range]:
    """Cut a range into shards, at most one per seed, whose sizes differ by one at most."""
    shards = min(shards, len(seeds))
    ends = [len(seeds) * number // shards for number in range(shards + 1)]
    return [seeds[start:end] for start, end in itertools.pairwise(ends)]


if __name__ == "__main__":
    main(sample_at_scale, sys.argv[1:])
