"""Training and sampling on a machine that others use too: quiet, and next to busy processes.

The demo's network as a whole run goes, waiting included: in one process, whose threads meet at
every operation, and as the stages do it on a CPU, in processes of one thread. Everything takes
turns; `quiet` and `busy` are medians of windows or images a second, images of 5 solver steps.
`of quiet` is the median of the ratios to the turn's quiet speed of the same way, `of threads` that
to the turn's quiet speed of threads.

    taskset -c 0,1 python -m benchmarks.sharing --threads 2
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

import torch

from benchmarks._common import cpu_name, show, speedup
from benchmarks.sampling import CASES as SAMPLED
from benchmarks.sampling import write_model
from benchmarks.training import CASES as TRAINED
from benchmarks.training import Way, train
from patchdm.formats.images import Pixels
from patchdm.formats.tensors import to_uint8
from patchdm.pipeline import PatchDMPipeline
from patchdm.sampling.generate import generate
from patchdm.sampling.solve import generators
from patchdm.sampling.write import write_shards

BUSY = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"
STEPS = 5
"""Solver steps of a sample."""
SHARD = 64
"""Images of a shard, as in the demo."""
WARM = 4
"""Events (steps, batches of images) before the clock starts."""

Say = Callable[[int], object]
"""Called with the number of windows or images finished."""
Work = Callable[[int, int, Path, int, Say], None]
"""(rank, processes, folder, threads, say): works until it is killed."""


def main() -> None:
    """Measure training and sampling."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--busy", type=int, default=2, help="processes that compute all the time")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="of a measurement, at least")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_model(SAMPLED[0], Path(folder) / "model")
        for name, work in {"training": train_on, "sampling": sample_on}.items():
            found: dict[tuple[int, int], list[float]] = {}
            for _ in range(args.repeats):
                for processes in (1, args.threads):
                    for busy in (0, args.busy):
                        arguments = Path(folder), args.threads, busy, args.seconds
                        speed = rate(work, processes, *arguments)
                        found.setdefault((processes, busy), []).append(speed)
            rows += [row(name, n, args.threads, args.busy, found) for n in (1, args.threads)]
    show(f"Next to {args.busy} busy processes; {cpu_name()}, {args.threads} threads", rows)


def row(
    name: str, processes: int, threads: int, busy: int, found: dict[tuple[int, int], list[float]]
) -> dict[str, str]:
    """Return the table's row of one way."""
    quiet, disturbed = found[processes, 0], found[processes, busy]
    return {
        "work": name,
        "way": f"{threads} threads" if processes == 1 else f"{processes} processes",
        "quiet": f"{median(quiet):.1f}",
        "of threads": f"{speedup(quiet, found[1, 0]):.0%}",
        "busy": f"{median(disturbed):.1f}",
        "of quiet": f"{speedup(disturbed, quiet):.0%}",
        "busy of threads": f"{speedup(disturbed, found[1, 0]):.0%}",
    }


@contextlib.contextmanager
def neighbours(count: int) -> Iterator[None]:
    """Keep so many processes of normal priority busy meanwhile."""
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]  # noqa: S603
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def rate(
    work: Work, processes: int, folder: Path, threads: int, busy: int, seconds: float
) -> float:
    """Return what fresh processes finish in a second, after a quiet start."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    context = multiprocessing.get_context("spawn")
    events: multiprocessing.Queue[tuple[float, int]] = context.Queue()
    ranks = [
        context.Process(target=worker, args=(events, work, rank, processes, folder, threads, port))
        for rank in range(processes if work is train_on else 1)
    ]
    for process in ranks:
        process.start()
    try:
        for _ in range(WARM):
            events.get(timeout=300)
        with neighbours(busy):
            end, done = start, before = events.get(timeout=300)
            while end - start < seconds:
                end, done = events.get(timeout=300)
        return (done - before) / (end - start)
    finally:
        for process in ranks:
            process.kill()
            process.join()


def worker(
    events: multiprocessing.Queue[tuple[float, int]],
    work: Work,
    rank: int,
    processes: int,
    folder: Path,
    threads: int,
    port: str,
) -> None:
    """Work as one of several processes, the first of which tells what is finished."""
    if work is train_on and processes > 1:
        threads //= processes
        world = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update(world, RANK=str(rank), LOCAL_RANK=str(rank))
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)
    parent = os.getppid()

    def say(done: int) -> None:
        if os.getppid() != parent:  # it was killed
            os._exit(1)
        events.put((time.perf_counter(), done))

    work(rank, processes, folder, threads, say)


def train_on(rank: int, processes: int, folder: Path, threads: int, say: Say) -> None:  # noqa: ARG001
    """Train as the stage does, for ever."""
    way = Way("", "auto", processes)
    case = TRAINED[0]._replace(steps=10**9)
    done = iter(range(case.batch, sys.maxsize, case.batch))
    with tempfile.TemporaryDirectory() as state:
        train(way, case, folder, Path(state), lambda _: say(next(done)))


def sample_on(rank: int, processes: int, folder: Path, threads: int, say: Say) -> None:  # noqa: ARG001
    """Sample as the stage does, or batch by batch with all threads, for ever."""
    case = SAMPLED[0]
    pipe = PatchDMPipeline.from_stages(folder / "model", None)
    pipe.set_progress_bar_config(disable=True)
    size = {"height": case.height, "width": case.width, "num_inference_steps": STEPS}

    def draw(seeds: Sequence[int]) -> Pixels:
        noise = {"generator": generators(seeds), "output_type": "latent"}
        return to_uint8(pipe(len(seeds), **noise, **size).images)

    with tempfile.TemporaryDirectory() as out:
        seeds, shards = range(10**5), Path(out) / "samples"
        options = {"shard_size": SHARD, "batch_size": 16, "format": "png", "on_progress": say}
        if processes == 1:
            write_shards(functools.partial(map, draw), seeds, shards, settings={}, **options)
        generate(pipe, seeds, shards, key={}, **size, **options)


if __name__ == "__main__":
    main()
