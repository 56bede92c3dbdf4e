"""Speed against the authors' code, with the same weights; OFFICIAL names a checkout of it.

One denoising step of one canvas, and one training step (loss, gradients, Adam, weight average) on
ready batches. Each way has a process, and they take turns; medians are shown. The authors' network
runs as it stands; it needs einops, which this project does not.

    OFFICIAL=../Patch-DM taskset -c 0,1 python -m benchmarks.official --threads 2
    OFFICIAL=../Patch-DM python -m benchmarks.official --device cuda
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
import time
import types
from collections.abc import Callable
from functools import cache
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, pad

from benchmarks._common import awake, describe, machine_peaks, process, show, speedup
from benchmarks._weights import authors_weights
from patchdm.devices import cast, device_for
from patchdm.diffusion.loss import Window, window_losses
from patchdm.diffusion.schedules import paper_scheduler
from patchdm.grid import PatchGrid, merge, positions, split
from patchdm.memory import keep_freed_memory
from patchdm.models import PatchUNet
from patchdm.sampling.denoise import Denoiser
from patchdm.sampling.tilings import Step
from patchdm.training.ema import Ema

OFFICIAL = "OFFICIAL"
Call = Callable[[], Tensor]


class Way(NamedTuple):
    """Whose network it is, and how it computes."""

    authors: bool = False
    precision: str = "no"
    compiled: bool = False
    devices: tuple[str, ...] = ("cpu", "cuda")


class Case(NamedTuple):
    """A network, the side of a canvas, and windows of a training step."""

    name: str
    sizes: dict[str, Any]
    side: int
    batch: int


SMALL = {"patch_size": 16, "channels": (32, 64, 128, 256), "attention_levels": (2,)}
CASES = {
    "cpu": [
        Case("32 channels, p = 16, 64x64", SMALL, 64, 32),
        Case("paper, p = 64, 256x256", {}, 256, 4),
    ],
    "cuda": [Case("paper, p = 64, 1024x1024", {}, 1024, 32)],
}


def main() -> None:
    """Measure all cases, if the authors' code is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=CASES, default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    if OFFICIAL not in os.environ:
        print(f"{OFFICIAL} is not set, expected the folder of the authors' code: not measured")
        return
    torch.set_num_threads(args.threads)
    rows = [
        row
        for case in range(len(CASES[args.device]))
        for kind in KINDS
        for row in measure(args.device, case, kind, args.threads, args.repeats)
    ]
    cuda = args.device == "cuda"
    machine = torch.cuda.get_device_name() if cuda else describe(machine_peaks())
    show(f"Against the authors' code, {machine}, torch {torch.__version__}", rows)


def measure(
    device: str, case: int, kind: str, threads: int, repeats: int
) -> list[dict[str, object]]:
    """Return a row for each way to take a kind of step."""
    ways = [name for name, way in WAYS.items() if device in way.devices]
    with contextlib.ExitStack() as stack:
        pools = {way: stack.enter_context(process()) for way in ways}

        def there(function: Callable[..., Any]) -> dict[str, Any]:
            """Call a function in the process of each way, one after another."""
            given = device, case, kind, threads
            return {way: pools[way].submit(function, way, *given).result() for way in ways}

        results = there(result_of)
        turns = [there(seconds_of) for _ in range(repeats)]
    seconds = {way: [turn[way] for turn in turns] for way in ways}
    return [
        {
            "network": CASES[device][case].name,
            "step": kind,
            "way": way,
            "s/step": f"{median(seconds[way]):.4f}",
            "speed": f"{speedup(seconds['authors'], seconds[way]):.2f}x",
            "differ by": f"{(results[way] - results['authors']).abs().max():.0e}",
        }
        for way in ways
    ]


def result_of(way: str, *given: Any) -> Tensor:
    """Return what a step gives, the first time."""
    return call_of(way, *given)().float().cpu()


def seconds_of(way: str, device: str, *given: Any) -> float:
    """Return the seconds of a step; on a GPU of one in a row of four, as it runs ahead."""
    call = call_of(way, device, *given)
    steps = 4 if device == "cuda" else 1
    start = time.perf_counter()
    for _ in range(steps):
        call()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / steps


@cache
def call_of(way: str, device: str, case: int, kind: str, threads: int) -> Call:
    """Return a step, which stays in this process; the library's keeps memory, as stages do."""
    torch.set_num_threads(threads)
    torch.set_default_device(device)
    device_for(deterministic=False, training=kind == "training")
    torch.manual_seed(0)
    sizes = CASES[device][case].sizes
    unet = PatchUNet(**{"time_channels": 32 if sizes else 64, **sizes})
    awake(unet)
    network: nn.Module = unet.to(memory_format=torch.channels_last)
    if WAYS[way].authors:
        network = authors_network(unet.to(memory_format=torch.contiguous_format))
    else:
        keep_freed_memory()
    torch.manual_seed(1)  # equal inputs, whatever was drawn to build a network
    return KINDS[kind](CASES[device][case], unet, network, WAYS[way])


def authors_network(unet: PatchUNet) -> nn.Module:
    """Return the authors' network with our weights."""
    sys.path.insert(0, os.environ[OFFICIAL])
    sys.modules.setdefault("turtle", types.ModuleType("turtle")).forward = None  # type: ignore[attr-defined]  # imported, not used
    config, p = unet.config, unet.config.patch_size
    theirs = importlib.import_module("model.unet_autoenc")  # found only now
    network = theirs.BeatGANsAutoencConfig(
        image_size=p,
        model_channels=config.channels[0],
        channel_mult=tuple(width // config.channels[0] for width in config.channels),
        num_res_blocks=config.res_blocks,
        attention_resolutions=tuple(64 >> level for level in config.attention_levels),
        embed_channels=config.embed_dim,
        enc_out_channels=config.cond_dim,
        resnet_two_cond=True,
        resnet_cond_channels=config.cond_dim,
        semantic_enc=False,
    ).make_model()
    state = authors_weights(unet)
    shapes = {key: weight.shape for key, weight in network.state_dict().items()}
    network.load_state_dict({key: state[key].reshape(shape) for key, shape in shapes.items()})
    return network


def sampling(case: Case, unet: PatchUNet, network: nn.Module, way: Way) -> Call:
    """Return a way to predict one canvas."""
    p, side = unet.config.patch_size, case.side
    x_t, cond = torch.randn(1, 3, side, side), torch.randn(1, unet.config.cond_dim)
    grid, step = PatchGrid.of(side, side, p), Step(torch.tensor(500), 0, 1)
    given = {"cond": cond, "imgs": torch.empty(1, 3, side, side), "patch_size": p}
    given["pos"] = positions(grid.rows, grid.cols, shifted=False, device=x_t.device)

    def authors() -> Tensor:
        patches = split(pad(x_t, (p // 2,) * 4), p)
        with _autocast(x_t, way):
            made = network(x=patches, t=step.t.reshape(1), **given).pred
        return merge(made, grid.rows, grid.cols)

    network.eval()
    if way.authors:
        return torch.no_grad()(authors)
    cast(unet, way.precision)
    if way.compiled:
        unet.compile()
    denoiser = Denoiser(unet, grid, cond)
    return torch.no_grad()(lambda: denoiser(x_t, step))


def training(case: Case, unet: PatchUNet, network: nn.Module, way: Way) -> Call:
    """Return a way to take a training step."""
    p, batch = unet.config.patch_size, case.batch
    pixels, noise = torch.rand(2, batch, 3, 2 * p, 2 * p).unbind()
    t, cond = torch.full((batch,), 500), torch.randn(batch, unet.config.cond_dim)
    scheduler, centre = paper_scheduler(), slice(p // 2, p // 2 + p)
    given = {"cond": cond, "imgs": torch.empty(batch, 3, p, p), "patch_size": p, "do_train": True}
    given["pos"] = positions(1, 1, shifted=False, device=t.device).repeat(batch, 1)
    x_t = scheduler.add_noise(pixels, noise, t)
    offset = torch.zeros(batch, 2, dtype=torch.int64)
    inside = torch.ones(batch, 1, 2 * p, 2 * p)
    window = Window(pixels, inside, torch.zeros(batch, 2), offset)

    def authors() -> Tensor:
        made = network(x=split(x_t, p), t=t, index=torch.zeros(2), **given)
        shifted = mse_loss(made.pred, noise[..., centre, centre])
        return shifted + mse_loss(made.pred2, split(noise, p))

    def library() -> Tensor:
        each = window_losses(unet, window, t, cond, noise=noise, scheduler=scheduler)
        return torch.stack(list(each.values())).sum(dim=0).mean()

    loss = authors if way.authors else library
    if way.compiled:
        loss = torch.compile(loss)

    def autocast_loss() -> Tensor:
        with _autocast(x_t, way):
            return loss()

    return stepping(network.train(), autocast_loss, fused=not way.authors)


def _autocast(x_t: Tensor, way: Way) -> torch.autocast:
    return torch.autocast(x_t.device.type, torch.bfloat16, enabled=way.precision == "bf16")


def stepping(network: nn.Module, loss: Call, *, fused: bool) -> Call:
    """Return a training step: the library's optimiser and average are fused, theirs are not."""
    parameters = list(network.parameters())
    optimizer = torch.optim.Adam(parameters, lr=0.0, fused=fused)
    average = Ema(parameters)

    def step() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if fused:
            average.update(parameters, 0.999)
        else:
            with torch.no_grad():
                for mean, parameter in zip(average.averages, parameters, strict=True):
                    mean.mul_(0.999).add_(parameter, alpha=0.001)
        return value.detach()

    return step


WAYS = {
    "authors": Way(authors=True),
    "authors, bf16": Way(authors=True, precision="bf16", devices=("cuda",)),
    "patchdm": Way(),
    "patchdm, bf16": Way(precision="bf16"),
    "patchdm, bf16, compiled": Way(precision="bf16", compiled=True, devices=("cuda",)),
}
KINDS = {"sampling": sampling, "training": training}

if __name__ == "__main__":
    main()
