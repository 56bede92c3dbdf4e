"""Where the time of a training step and of a sampling step goes, by kind of operation.

Self time of torch.profiler on one thread, in shares; "other" is what each of the named kinds is
not, the dispatch of operations included. The last columns tell what is left to gain.

    python -m benchmarks.profile
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks._common import awake, cpu, gflop, show
from benchmarks.alignment import step
from benchmarks.training import CASES, PRESETS, Case, parts
from patchdm.config import load_params
from patchdm.devices import cast
from patchdm.grid import PatchGrid
from patchdm.models.build import build_unet
from patchdm.sampling.denoise import Denoiser
from patchdm.sampling.tilings import Step

KINDS = {
    "convolution": "convolution",
    "norm": "norm",
    "mm": "matrix products",
    "attention": "attention",
    "silu": "SiLU",
    "copy": "copies",
    "cat": "copies",
    "bernoulli": "dropout",
    "adam": "optimiser",
}
"""Part of an operation's name -> kind; the first that fits."""
CALLS = 3


def main() -> None:
    """Profile both kinds of steps of both networks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="*", default=[c.preset for c in CASES], help="presets")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = [
        {"network": case.name, "step": make.__name__, "in": name, **shares(make(case, name))}
        for case in CASES
        if case.preset in args.cases
        for name in ("no", "bf16")
        for make in (training, sampling)
    ]
    show(f"Shares of a step, {cpu()}, 1 thread", rows)


def shares(call: Callable[[], object]) -> dict[str, str]:
    """Return milliseconds of a call, GFLOP/s of its convolutions, and the share of each kind."""
    work = gflop(call)
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        for _ in range(CALLS):
            call()
    times: Counter[str] = Counter(dict.fromkeys([*KINDS.values(), "other"], 0.0))
    for event in recorded.key_averages():
        kind = next((kind for part, kind in KINDS.items() if part in event.key.lower()), "other")
        times[kind] += event.self_cpu_time_total / CALLS / 1e3
    total = sum(times.values())
    rate = work / (times["convolution"] / 1e3)
    measured = {"ms": f"{total:.1f}", "GFLOP/s of convolutions": f"{rate:.0f}"}
    return measured | {kind: f"{time / total:.0%}" for kind, time in times.items()}


def training(case: Case, precision: str) -> Callable[[], object]:
    """Return a training step on one batch."""
    with tempfile.TemporaryDirectory() as folder:
        module, draw, _ = parts(case, Path(folder))
        batch = draw(range(case.batch))
    return step(module, batch, torch.bfloat16 if precision == "bf16" else torch.float32)


def sampling(case: Case, precision: str) -> Callable[[], object]:
    """Return a denoising step of the canvases that are computed together."""
    params = load_params(PRESETS / f"{case.preset}.yaml")
    demo = case.preset == "demo"
    count, height, width = (16, 32, 64) if demo else (1, 256, 256)
    unet = build_unet(params.model).eval().to(memory_format=torch.channels_last)
    awake(unet)
    cast(unet, precision)
    grid = PatchGrid.of(height, width, params.model.patch_size)
    denoiser = Denoiser(unet, grid, torch.randn(count, params.model.code_dim))
    x_t, at = torch.randn(count, 3, height, width), Step(torch.tensor(500), 0, 1)
    return torch.no_grad()(lambda: denoiser(x_t, at))


if __name__ == "__main__":
    main()
