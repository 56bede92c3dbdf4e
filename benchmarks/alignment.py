"""What it costs that MKL does not look at the alignment of memory, as `patchdm/__init__.py` asks.

Two processes compute the same on the demo's networks, one with MKL_CBWR=AUTO and one without, and
take turns; medians of their turns and of the ratios are shown. Measured is the CPU's time of one
thread, which depends less than the clock on what else runs.

    python -m benchmarks.alignment
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from statistics import median

import torch
from torch import nn

from benchmarks._common import awake, cpu, show, speedup
from benchmarks.training import CASES, PRESETS, parts
from patchdm.config import load_params
from patchdm.diffusion.schedules import latent_scheduler
from patchdm.models.build import build_latent, build_unet
from patchdm.sampling import predict_eps
from patchdm.training.latent import LatentTraining, code_draw

SETTINGS = {"without": "", "MKL_CBWR=AUTO": "AUTO"}
CALLS = 10
"""In each turn."""


def main() -> None:
    """Measure every kind of work."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        pools = {name: stack.enter_context(process(value)) for name, value in SETTINGS.items()}
        rows = [measure(work, pools, args.repeats) for work in WORKS]
    show(f"Kernels that do not look at alignment: {cpu()}, 1 thread", rows)


def process(setting: str) -> ProcessPoolExecutor:
    """Return a pool of one process in which MKL finds a setting."""
    os.environ["MKL_CBWR"] = setting
    pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    pool.submit(os.getpid).result()  # it has started, with the setting
    return pool


def measure(work: str, pools: dict[str, ProcessPoolExecutor], repeats: int) -> dict[str, object]:
    """Return the row of one kind of work."""
    turns = [
        {name: pool.submit(turn, work).result() for name, pool in pools.items()}
        for _ in range(repeats)
    ]
    without, auto = ([each[name] for each in turns] for name in SETTINGS)
    return {
        "work": work,
        "without, ms": f"{median(without):.1f}",
        "MKL_CBWR=AUTO, ms": f"{median(auto):.1f}",
        "time": f"{speedup(auto, without):.2f}x",
    }


def turn(work: str) -> float:
    """Do one kind of work CALLS times, in a process of its own; return the CPU's ms of a call."""
    torch.set_num_threads(1)
    call = made(work)
    start = time.process_time()
    for _ in range(CALLS):
        call()
    return 1000 * (time.process_time() - start) / CALLS


@cache
def made(work: str) -> Callable[[], object]:
    """Return one call of a kind of work, after the first."""
    call = WORKS[work]()
    call()
    return call


def prediction() -> Callable[[], object]:
    """Return `predict_eps` on 16 canvases of the demo."""
    params = load_params(PRESETS / "demo.yaml")
    unet = build_unet(params.model).eval()
    awake(unet)
    x_t = torch.randn(16, 3, params.data.height, params.data.width)
    t, cond = torch.full((16,), 500), torch.randn(16, params.model.code_dim)
    return torch.no_grad()(lambda: predict_eps(unet, x_t, t, cond))


def image_step(dtype: torch.dtype) -> Callable[[], object]:
    """Return a training step of the demo's image model, on one batch."""
    with tempfile.TemporaryDirectory() as folder:
        module, draw, _ = parts(CASES[0], Path(folder))
        batch = draw(range(CASES[0].batch))
    return step(module, batch, dtype)


def latent_step() -> Callable[[], object]:
    """Return a training step of the demo's latent model, on one batch."""
    params = load_params(PRESETS / "demo.yaml")
    latent, scheduler = build_latent(params.latent, params.model.code_dim), latent_scheduler()
    codes = torch.randn(64, params.model.code_dim)
    latent.fit_normalization(codes)
    draw = code_draw(codes, num_timesteps=scheduler.config.num_train_timesteps, seed=0)
    batch = draw(range(params.latent.batch_size))
    return step(LatentTraining(latent, scheduler), batch, torch.float32)


def step(
    module: nn.Module, batch: dict[str, torch.Tensor], dtype: torch.dtype
) -> Callable[[], object]:
    """Return loss, gradients and Adam's step."""
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-4, fused=True)

    def call() -> None:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            loss = module(**batch)["loss"].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return call


WORKS: dict[str, Callable[[], Callable[[], object]]] = {
    "predict_eps, 16 canvases": prediction,
    "training step, float32": lambda: image_step(torch.float32),
    "training step, bf16": lambda: image_step(torch.bfloat16),
    "latent training step": latent_step,
}

if __name__ == "__main__":
    main()
