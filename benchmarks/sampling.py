"""Speed of DDIM sampling against the straightforward implementation, network by network.

The same weights, noise and codes go through `benchmarks.straightforward.sample` and through
`PatchDMPipeline`, which must agree, in bf16 to its precision. Each has a process, as the library
keeps freed memory for itself, and they take turns; medians are shown.
images/s are those of 50 steps; GFLOP are those of one: the convolutions and matrix products that
each really does, whose rate is compared with peaks measured just before. Peak memory is that of a
process of its own that samples one step.

    taskset -c 0,1 python -m benchmarks.sampling --threads 2
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from benchmarks import straightforward
from benchmarks._common import (
    awake,
    describe,
    gflop,
    in_process,
    machine_peaks,
    peak_rss_mib,
    process,
    show,
    speedup,
)
from benchmarks._weights import straightforward_like
from patchdm.config import load_params
from patchdm.devices import cast
from patchdm.diffusion.schedules import image_scheduler
from patchdm.memory import keep_freed_memory
from patchdm.models import PatchUNet
from patchdm.models.build import build_unet
from patchdm.pipeline import PatchDMPipeline

STEPS = 50
PRESETS = Path(__file__).parents[1] / "presets"
Sampler = Callable[[int], Tensor]
"""Number of solver steps -> images."""


class Case(NamedTuple):
    """What is sampled."""

    name: str
    preset: str
    height: int
    width: int
    batch: int
    steps: int


CASES = [
    Case("demo network, 64x32, batch 32", "demo", 32, 64, 32, 10),
    Case("paper p = 64, 256x256, batch 1", "nature1024", 256, 256, 1, 2),
    Case("paper p = 64, 256x256, batch 4", "nature1024", 256, 256, 4, 1),
]


def main() -> None:
    """Measure all cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cases", nargs="*", default=[c.preset for c in CASES], help="presets")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    peaks = machine_peaks()
    rows = []
    for case in CASES:
        if case.preset in args.cases:
            rows += measure(case, peaks, args.repeats)
    show(f"DDIM sampling, {describe(peaks)}", rows)


def measure(case: Case, peaks: dict[str, float], repeats: int) -> list[dict[str, object]]:
    """Return one row for each path."""
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        model = Path(folder)
        write_model(case, model)
        pools = {name: stack.enter_context(process()) for name in SAMPLERS}

        def there(function: Callable[..., Any]) -> dict[str, Any]:
            """Call a function in the process of each path, one after another."""
            given = case, model, threads
            return {name: pools[name].submit(function, name, *given).result() for name in pools}

        images, work = there(images_of), there(work_of)
        turns = [there(seconds_of) for _ in range(repeats)]
        memory = {name: in_process(memory_of, name, case, model, threads) for name in SAMPLERS}
    times = {name: [turn[name] for turn in turns] for name in SAMPLERS}
    seconds = {name: median(each) / case.steps for name, each in times.items()}
    rate = {name: work[name] / seconds[name] for name in SAMPLERS}
    return [
        {
            "network": case.name,
            "path": name,
            "s/step": f"{seconds[name]:.4f}",
            "images/s": f"{case.batch / seconds[name] / STEPS:.4f}",
            "speed": f"{speedup(times['straightforward'], times[name]):.2f}x",
            "GFLOP": f"{work[name]:.1f}",
            "GFLOP/s": f"{rate[name]:.0f}",
            "of matmul": f"{rate[name] / peaks['matmul']:.0%}",
            "of conv": f"{rate[name] / peaks['conv, channels last']:.0%}",
            "peak MiB": f"{memory[name]:.0f}",
            "differ by": f"{(images[name] - images['straightforward']).abs().max():.0e}",
        }
        for name in SAMPLERS
    ]


def images_of(name: str, case: Case, model: Path, threads: int) -> Tensor:
    """Return the images of a path."""
    return sampler_of(name, case, model, threads)(case.steps)


def work_of(name: str, case: Case, model: Path, threads: int) -> float:
    """Return the GFLOP of a step."""
    return gflop(lambda: sampler_of(name, case, model, threads)(1))


def seconds_of(name: str, case: Case, model: Path, threads: int) -> float:
    """Return the seconds of sampling."""
    sampler = sampler_of(name, case, model, threads)
    start = time.perf_counter()
    sampler(case.steps)
    return time.perf_counter() - start


def memory_of(name: str, case: Case, model: Path, threads: int) -> float:
    """Sample one step and return the peak memory of this process in MiB."""
    sampler_of(name, case, model, threads)(1)
    return peak_rss_mib()


@cache
def sampler_of(name: str, case: Case, model: Path, threads: int) -> Sampler:
    """Return a path's sampler, which stays in this process."""
    torch.set_num_threads(threads)
    return SAMPLERS[name](case, model)


def write_model(case: Case, folder: Path) -> None:
    """Write a model of random weights, all of them at work."""
    params = load_params(PRESETS / f"{case.preset}.yaml")
    torch.manual_seed(0)
    unet = build_unet(params.model).eval()
    awake(unet)
    unet.save_pretrained(folder / "unet")
    image_scheduler(params.diffusion).save_pretrained(folder / "scheduler")


def library(case: Case, model: Path, precision: str = "no") -> Sampler:
    """Sample with the pipeline, as the stages and the command line do."""
    keep_freed_memory()
    pipe = PatchDMPipeline.from_stages(model, None)
    cast(pipe.unet, precision)
    pipe.set_progress_bar_config(disable=True)
    x_T, cond = inputs(case, pipe.unet.config.cond_dim)

    def sample(num_steps: int) -> Tensor:
        return pipe(
            case.batch,
            latents=x_T,
            cond=cond,
            num_inference_steps=num_steps,
            output_type="latent",
            tiling="shifted",
        ).images

    return sample


def baseline(case: Case, model: Path) -> Sampler:
    """Sample with the straightforward implementation."""
    unet = PatchUNet.from_pretrained(model / "unet")
    net = straightforward_like(unet)
    scheduler = DDIMScheduler.from_pretrained(model / "scheduler")
    x_T, cond = inputs(case, unet.config.cond_dim)
    return lambda num_steps: straightforward.sample(net, scheduler, x_T, cond, num_steps)


def inputs(case: Case, cond_dim: int) -> tuple[Tensor, Tensor]:
    """Return noise and codes."""
    generator = torch.Generator().manual_seed(0)
    x_T = torch.randn(case.batch, 3, case.height, case.width, generator=generator)
    return x_T, torch.randn(case.batch, cond_dim, generator=generator)


SAMPLERS: dict[str, Callable[[Case, Path], Sampler]] = {
    "straightforward": baseline,
    "patchdm": library,
    "patchdm, bf16": partial(library, precision="bf16"),
}

if __name__ == "__main__":
    main()
