"""Speed of training against the straightforward implementation, network by network.

`benchmarks.straightforward.train_step` gets batches that are ready; the library's are timed as a
stage trains: `fit` with its draws from a patch store, its average and its reports. They take turns,
medians of the steps are shown; a process of its own measures the peak memory of each. GFLOP/s are
those of convolutions and matrix products, next to peaks measured just before. `bf16` is what
train.mixed_precision: auto takes where the CPU computes in it; the reference knows float32 alone.
Two processes have half the threads each.

    taskset -c 0,1 python -m benchmarks.training --threads 2
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from benchmarks import straightforward
from benchmarks._common import (
    describe,
    gflop,
    in_process,
    machine_peaks,
    peak_rss_mib,
    show,
    speedup,
)
from benchmarks._paper import IMAGES, pictures
from patchdm.config import Params, load_params
from patchdm.diffusion.schedules import image_scheduler
from patchdm.formats.patch_store import PatchStore
from patchdm.formats.tensors import to_float
from patchdm.memory import keep_freed_memory
from patchdm.models.build import build_code, build_unet
from patchdm.training.checkpoint import Checkpoints
from patchdm.training.image import ImageTraining, window_draw
from patchdm.training.loop import Hooks, fit, make_accelerator
from patchdm.training.plan import plan_of

PRESETS = Path(__file__).parents[1] / "presets"
WARM = 2
"""Steps before the clock starts."""


class Case(NamedTuple):
    """What is trained."""

    name: str
    preset: str
    batch: int
    steps: int


class Way(NamedTuple):
    """How it is trained; without a precision by the reference."""

    name: str
    precision: str | None
    processes: int = 1


CASES = [
    Case("demo network, batch 16", "demo", 16, 20),
    Case("p = 64, batch 4", "nature1024", 4, 2),
]
WAYS = [
    Way("straightforward", None),
    Way("patchdm", "no"),
    Way("patchdm, 2 processes", "no", 2),
    Way("patchdm, bf16", "bf16"),
    Way("patchdm, bf16, 2 processes", "bf16", 2),
]


def main() -> None:
    """Measure all cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cases", nargs="*", default=[c.preset for c in CASES], help="presets")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    peaks = machine_peaks()
    rows = []
    for case in CASES:
        if case.preset in args.cases:
            rows += measure(case, peaks, args.threads, args.repeats)
    show(f"Training, {describe(peaks)}", rows)


def measure(
    case: Case, peaks: dict[str, float], threads: int, repeats: int
) -> list[dict[str, object]]:
    """Return one row for each way."""
    with tempfile.TemporaryDirectory() as folder:
        work = {way: work_of(way, case, Path(folder)) for way in WAYS}
        turns: dict[Way, list[float]] = {way: [] for way in WAYS}
        memory = {}
        for _ in range(repeats):
            for way in WAYS:
                seconds, memory[way] = run(way, case, Path(folder), threads)
                turns[way].append(seconds)
    seconds = {way: median(each) for way, each in turns.items()}
    return [
        {
            "network": case.name,
            "way": way.name,
            "s/step": f"{seconds[way]:.3f}",
            "images/s": f"{case.batch / seconds[way]:.2f}",
            "speed": f"{speedup(turns[WAYS[0]], turns[way]):.2f}x",
            "GFLOP": f"{work[way]:.0f}",
            "GFLOP/s": f"{work[way] / seconds[way]:.0f}",
            "of matmul": f"{work[way] / seconds[way] / peaks['matmul']:.0%}",
            "of conv": f"{work[way] / seconds[way] / peaks['conv, channels last']:.0%}",
            "peak MiB": f"{memory[way]:.0f}",
        }
        for way in WAYS
    ]


def run(way: Way, case: Case, folder: Path, threads: int) -> tuple[float, float]:
    """Train some steps in fresh processes; return the median seconds of one and the peak MiB."""
    if way.processes == 1:
        return in_process(steps_of, way, case, folder, threads)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    world = {"WORLD_SIZE": str(way.processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[tuple[float, float]] = context.Queue()
    share = max(1, threads // way.processes)
    ranks = []
    for number in map(str, range(way.processes)):
        rank = world | {"RANK": number, "LOCAL_RANK": number}
        arguments = (results, rank, way, case, folder, share)
        ranks.append(context.Process(target=rank_of, args=arguments))
    for rank in ranks:
        rank.start()
    found = [results.get(timeout=600) for _ in ranks]
    for rank in ranks:
        rank.join()
    return max(seconds for seconds, _ in found), sum(mib for _, mib in found)


def rank_of(
    results: multiprocessing.Queue[tuple[float, float]],
    world: dict[str, str],
    way: Way,
    case: Case,
    folder: Path,
    threads: int,
) -> None:
    """Train as one of several processes."""
    os.environ.update(world, OMP_NUM_THREADS=str(threads))
    results.put(steps_of(way, case, folder, threads))


def steps_of(way: Way, case: Case, folder: Path, threads: int) -> tuple[float, float]:
    """Train in this process; return the median seconds of a step and this process's peak MiB."""
    torch.set_num_threads(threads)
    clock: list[float] = []
    if way.precision is None:
        step = reference(case, folder)
        for _ in range(WARM + case.steps + 1):
            clock.append(time.perf_counter())
            step()
    else:
        keep_freed_memory()  # as stages do
        with tempfile.TemporaryDirectory() as state:
            train(way, case, folder, Path(state), lambda _: clock.append(time.perf_counter()))
    steps = np.diff(clock[WARM - 1 : -1])  # the main process alone hears of them
    return float(np.median(steps)) if len(steps) else 0.0, peak_rss_mib()


def work_of(way: Way, case: Case, folder: Path) -> float:
    """Return the GFLOP of a step."""
    if way.precision is None:
        step = reference(case, folder)
        return gflop(step)
    module, draw, _ = parts(case, folder)
    return gflop(lambda: module(**draw(range(case.batch)))["loss"].mean().backward())


def train(way: Way, case: Case, folder: Path, state: Path, on_step: Callable[[int], None]) -> None:
    """Train as the stage does."""
    module, draw, params = parts(case, folder)
    plan = plan_of(
        params.train,
        seed=0,
        items_seen=case.batch * (WARM + case.steps + 1),
        batch_size=case.batch,
        micro_batch_size=case.batch // way.processes,
        warmup_items=0,
        log_every=case.batch,
        checkpoint_every=10**9,
    )
    fit(
        module,
        torch.optim.Adam(module.parameters(), lr=1e-4, fused=True),
        draw,
        plan,
        accelerator=make_accelerator(plan, way.precision or "no"),
        checkpoints=Checkpoints(state, print),
        hooks=Hooks(
            report=lambda _seen, _metrics: None, progress=on_step, stop_requested=lambda: False
        ),
    )


def reference(case: Case, folder: Path) -> Callable[[], float]:
    """Return a step of the straightforward implementation on one batch."""
    module, draw, params = parts(case, folder)
    batch = draw(range(case.batch))
    net = straightforward.UNet(**module.unet.config)
    codes = nn.Embedding(IMAGES, params.model.code_dim)
    parameters = [*net.parameters(), *codes.parameters()]
    return functools.partial(
        straightforward.train_step,
        net,
        codes,
        [parameter.detach().clone() for parameter in parameters],
        torch.optim.Adam(parameters, lr=1e-4),
        image_scheduler(params.diffusion),
        {"x0": to_float(batch["pixels"])}
        | {n: batch[n] for n in ("inside", "corner", "t", "noise", "image")},
        ema_decay=params.train.ema_decay,
        grad_clip=params.train.grad_clip,
    )


def parts(case: Case, folder: Path) -> tuple[ImageTraining, Callable[..., dict], Params]:
    """Return module and draw of a preset on random pictures, as the stage builds them."""
    params = load_params(PRESETS / f"{case.preset}.yaml")
    store = folder / case.preset
    if not store.is_dir():
        store.mkdir()
        pictures(params, store)
    torch.manual_seed(0)
    module = ImageTraining(
        build_unet(params.model),
        build_code(params.model, IMAGES),
        image_scheduler(params.diffusion),
        min_snr_gamma=params.train.min_snr_gamma,
    )
    if params.train.channels_last:
        module.to(memory_format=torch.channels_last)
    sections = params.model, params.train, params.diffusion
    return module, window_draw(*sections, PatchStore(store), seed=0), params


if __name__ == "__main__":
    main()
