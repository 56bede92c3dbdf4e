"""What a GPU does with the paper's networks: speed, memory against `patchdm plan`, equal bytes.

    python -m benchmarks.gpu train nature1024        windows/s and peak memory of whole steps
    python -m benchmarks.gpu sample nature1024       a sampling step, and how far from float32
    python -m benchmarks.gpu agree ffhq256           the same steps on the CPU and here
    python -m benchmarks.gpu bytes nature1024        two trainings, a stopped one, other batches
    python -m benchmarks.gpu profile nature1024      the kernels of one training step
    python -m benchmarks.gpu plan nature1024         the peaks that `patchdm plan` knows

Networks have the preset's shape and random weights, images are random pixels. Trainings are `fit`
with its draws, processes that load, average and checkpoints; samples are the pipeline's. `--ways`
takes some ways alone. A machine that was just started imports slowly: all runs in one process where
it can.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks._common import in_process, show
from benchmarks._paper import (
    IMAGES,
    Sampling,
    Training,
    changed,
    of_way,
    pictures,
    pipeline,
    preset,
    sampled,
    sampling_params,
    trained,
    training_module,
)
from patchdm.devices import device_for
from patchdm.errors import PatchDMError
from patchdm.peaks import peaks
from patchdm.training.image import window_draw

STEPS = 8
"""Of a solver, where a step is timed."""

TRAININGS = {
    "micro 16": Training(16),
    "micro 32": Training(32),
    "micro 64": Training(64),
    "float32, micro 16": Training(16, precision="no"),
    "checkpointing, micro 64": Training(64, checkpointing=True),
    "compiled, micro 16": Training(16, compiled=True),
    "compiled, micro 64": Training(64, compiled=True),
}
SAMPLINGS = {
    "float32": Sampling(),
    "bf16": Sampling("bf16"),
    "float32, a row at once": Sampling(rows=1),
    "float32, compiled": Sampling(compiled=True),
    "bf16, compiled": Sampling("bf16", compiled=True),
}


def main() -> None:
    """Measure one thing on one preset."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=WHAT)
    parser.add_argument("preset")
    parser.add_argument("--ways", nargs="*", help="names of ways; all, if not given")
    parser.add_argument("--steps", type=int, default=8, help="optimiser steps of a training")
    parser.add_argument("--batch", type=int, help="images sampled at once; else the preset's")
    args = parser.parse_args()
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    rows = WHAT[args.what](args)
    if rows:
        show(f"{args.what} {args.preset}, {name}, torch {torch.__version__}", rows)


def train(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each way to train."""
    return _rows(args, TRAININGS, _train_row)


def sample(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each way to sample."""
    return _rows(args, SAMPLINGS, _sample_row)


def _rows(
    args: argparse.Namespace, ways: dict[str, Any], row: Callable[..., dict[str, Any]]
) -> list[dict[str, Any]]:
    rows = []
    for name in args.ways or ways:
        torch.compiler.reset()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        try:
            rows.append({"way": name} | row(args, ways[name]))
        except torch.OutOfMemoryError:
            rows.append({"way": name, "error": "out of memory"})
        print(rows[-1], flush=True)
    return rows


def _train_row(args: argparse.Namespace, way: Training) -> dict[str, Any]:
    params = of_way(args.preset, way)
    device_for(deterministic=False, training=True)
    clock: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        trained(
            params,
            Path(folder),
            steps=args.steps + 3,
            precision=way.precision,
            on_step=lambda _: clock.append(time.perf_counter()),
        )
    seconds = np.diff(clock[2:-1])  # the last writes a checkpoint
    return {
        "windows/s": round(params.train.batch_size / median(seconds), 1),
        "s/step": round(median(seconds), 4),
        "first step s": round(clock[0] - start, 1),
        "second step s": round(clock[1] - clock[0], 2),
        "peak GB": _peak(),
    }


def _sample_row(args: argparse.Namespace, way: Sampling) -> dict[str, Any]:
    params = sampling_params(args.preset, way)
    batch = args.batch or params.sample.batch_size
    pipe = pipeline(params, way)
    draw = partial(sampled, pipe, params, batch, rows=way.rows)
    start = time.perf_counter()
    draw(1)
    first = time.perf_counter() - start
    timings = {steps: _seconds(partial(draw, steps)) for steps in (1, STEPS)}
    step = (timings[STEPS] - timings[1]) / (STEPS - 1)
    peak = _peak()
    exact = sampled(pipeline(params, Sampling()), params, 2, STEPS)
    error = (draw(STEPS)[:2].float() - exact).abs()
    return {
        "ms/step": round(1e3 * step, 1),
        "images/s at 50 steps": round(batch / step / 50, 3),
        "first step s": round(first, 1),
        "peak GB": peak,
        "max |d|": round(error.max().item(), 5),
        "mean |d|": round(error.mean().item(), 6),
    }


def agree(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return losses of the same steps without dropout on the CPU and on the GPU."""
    ways = {"CPU": "no", "float32": "no", "float32, no TF32": "no", "bf16": "bf16", "fp16": "fp16"}
    rows: list[dict[str, Any]] = []
    found: dict[str, list[float]] = {}
    for name, way in ways.items():
        # A process that was told of no GPU finds none later.
        losses_of = partial(in_process, _losses) if name == "CPU" else _losses
        found[name] = losses_of(args, name, way)
        pairs = zip(found[name], found["CPU"], strict=True)
        largest = max(abs(here / there - 1) for here, there in pairs)
        losses = [round(loss, 6) for loss in found[name]]
        rows.append({"way": name, "losses": losses, "relative": largest})
        print(rows[-1], flush=True)
    return rows


def _losses(args: argparse.Namespace, name: str, precision: str) -> list[float]:
    if name == "CPU":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    train = {"batch_size": 4, "micro_batch_size": 2, "compile": False}
    params = changed(preset(args.preset), model={"dropout": 0.0}, train=train)
    device_for(deterministic=False, training=True)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = name == "float32"
    seen: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        trained(
            params,
            Path(folder),
            steps=6,
            precision=precision,
            on_loss=lambda _, metrics: seen.append(metrics["loss"]),
        )
    return seen


def bytes_(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return whether trainings and samples come out the same, deterministic and not."""
    rows = []
    for deterministic in (False, True):
        with ThreadPoolExecutor() as pool:  # each in a process of its own

            def begun(work: Callable[..., np.ndarray], value: int | None) -> Future[np.ndarray]:
                return pool.submit(partial(in_process, work, args, deterministic, value))  # noqa: B023

            once, again, stopped = (begun(_trained_bytes, stop) for stop in (None, None, 2))
            four, anew, two = (begun(_sampled_bytes, batch) for batch in (4, 4, 2))
        for name, one, other in (
            ("training, again", once, again),
            ("training, stopped after 2 of 4 steps", once, stopped),
            ("samples, again", four, anew),
            ("samples, two at once instead of four", four, two),
        ):
            found = _equal(one.result(), other.result())
            rows.append({"deterministic": deterministic, "what": name} | found)
            print(rows[-1], flush=True)
    return rows


def _equal(one: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    return {
        "equal bytes": one.tobytes() == other.tobytes(),
        "max |d|": float(np.abs(one - other).max()),
    }


def _trained_bytes(args: argparse.Namespace, deterministic: bool, stop: int | None) -> np.ndarray:
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # as stages do where they are deterministic
    train = {"batch_size": 16, "micro_batch_size": 8, "compile": False}
    params = changed(preset(args.preset), train=train)
    device_for(deterministic=deterministic, training=True)
    done: list[int] = []
    train_on = partial(trained, params, steps=4, precision="bf16", on_step=done.append)
    with tempfile.TemporaryDirectory() as folder:
        if stop:
            try:
                train_on(Path(folder), stop=lambda: len(done) + 1 == stop)
            except PatchDMError as error:
                print(error, flush=True)
        average = train_on(Path(folder))
    return torch.cat([weight.flatten() for weight in average.parameters()]).numpy()


@torch.no_grad()
def _sampled_bytes(args: argparse.Namespace, deterministic: bool, batch: int) -> np.ndarray:
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    params = preset(args.preset)
    device_for(deterministic=deterministic)
    return sampled(pipeline(params, Sampling()), params, batch, 3)[:2].float().cpu().numpy()


def profile(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Print the kernels of one micro-batch, forward and backward; return nothing."""
    params = of_way(args.preset, Training(32))
    device_for(deterministic=False, training=True)
    with tempfile.TemporaryDirectory() as folder:
        store = pictures(params, Path(folder))
        drawn = window_draw(params.model, params.train, params.diffusion, store, seed=0)(range(32))
    batch = {name: value.cuda() for name, value in drawn.items() if value is not None}
    module = training_module(params).cuda()

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            loss = module(**{"whole": None} | batch)["loss"].mean()
        loss.backward()

    for _ in range(4):
        step()
    with torch.profiler.profile() as found:
        step()
        torch.cuda.synchronize()
    averages = found.key_averages()
    print(averages.table(sort_by="self_cuda_time_total", row_limit=24, max_name_column_width=70))
    return []


def plan(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the peaks of all ways, as they are known without a GPU."""
    rows = [
        {"way": name, "GB": round(peaks(of_way(args.preset, way), IMAGES).training / 1e9, 1)}
        for name, way in TRAININGS.items()
        if not way.compiled
    ]
    for name, sampling in SAMPLINGS.items():
        if not sampling.compiled:
            params = sampling_params(args.preset, sampling)
            batch = args.batch or params.sample.batch_size
            rows.append({"way": name, "GB": round(peaks(params, IMAGES).sampling(batch) / 1e9, 1)})
    return rows


def _seconds(call: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def _peak() -> float:
    return round(torch.cuda.max_memory_allocated() / 1e9, 1)


WHAT = {
    "train": train,
    "sample": sample,
    "agree": agree,
    "bytes": bytes_,
    "profile": profile,
    "plan": plan,
}

if __name__ == "__main__":
    main()
