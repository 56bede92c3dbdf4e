"""Speed of DDIM sampling against the straightforward implementation, network by network.

The same weights, noise and codes go through `benchmarks.straightforward.sample` and through
`PatchDMPipeline`, which must agree; the two take turns, medians are shown. images/s are those of
50 steps; GFLOP are those of one: the convolutions and matrix products that each really does,
whose rate is compared with peaks measured just before. Peak memory is that of a process of its
own that samples one step.

    taskset -c 0,1 python -m benchmarks.sampling --threads 2
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from benchmarks import straightforward
from benchmarks._common import (
    awake,
    describe,
    gflop,
    in_process,
    interleaved,
    machine_peaks,
    peak_rss_mib,
    show,
    speedup,
)
from patchdm.config import load_params
from patchdm.diffusion.schedules import image_scheduler
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
    """Return one row for each of the two."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder)
        write_model(case, model)
        samplers = {name: make(case, model) for name, make in SAMPLERS.items()}
        work = {name: gflop(lambda s=s: s(1)) for name, s in samplers.items()}
        images = [sampler(case.steps) for sampler in samplers.values()]
        calls = {name: lambda s=s: s(case.steps) for name, s in samplers.items()}
        turns = interleaved(calls, repeats)
        memory = {
            name: in_process(memory_of, name, case, model, torch.get_num_threads())
            for name in samplers
        }
    seconds = {name: median(each) / case.steps for name, each in turns.items()}
    rate = {name: work[name] / seconds[name] for name in samplers}
    return [
        {
            "network": case.name,
            "path": name,
            "s/step": f"{seconds[name]:.4f}",
            "images/s": f"{case.batch / seconds[name] / STEPS:.4f}",
            "speed": f"{speedup(turns['straightforward'], turns[name]):.2f}x",
            "GFLOP": f"{work[name]:.1f}",
            "GFLOP/s": f"{rate[name]:.0f}",
            "of matmul": f"{rate[name] / peaks['matmul']:.0%}",
            "of conv": f"{rate[name] / peaks['conv, channels last']:.0%}",
            "peak MiB": f"{memory[name]:.0f}",
            "differ by": f"{(images[0] - images[1]).abs().max():.0e}",
        }
        for name in samplers
    ]


def memory_of(name: str, case: Case, model: Path, threads: int) -> float:
    """Sample one step and return the peak memory of this process in MiB."""
    torch.set_num_threads(threads)
    SAMPLERS[name](case, model)(1)
    return peak_rss_mib()


def write_model(case: Case, folder: Path) -> None:
    """Write a model of random weights, all of them at work."""
    params = load_params(PRESETS / f"{case.preset}.yaml")
    torch.manual_seed(0)
    unet = build_unet(params.model).eval()
    awake(unet)
    unet.save_pretrained(folder / "unet")
    image_scheduler(params.diffusion).save_pretrained(folder / "scheduler")


def library(case: Case, model: Path) -> Sampler:
    """Sample with the pipeline, as the stages and the command line do."""
    pipe = PatchDMPipeline.from_stages(model, None)
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
    net = straightforward.UNet.like(unet)
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
}

if __name__ == "__main__":
    main()
