"""Speed against the authors' code, with the same weights; OFFICIAL names a checkout of it.

One denoising step of one canvas, and one training step (loss, gradients, Adam, weight average) on
ready batches. All take turns; medians are shown. The authors' network runs as it stands, in
float32; it needs einops, which this project does not.

    OFFICIAL=../Patch-DM taskset -c 0,1 python -m benchmarks.official --threads 2
"""

from __future__ import annotations

import argparse
import copy
import importlib
import os
import sys
import types
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, pad

from benchmarks._common import awake, describe, interleaved, machine_peaks, show, speedup
from patchdm.devices import cast
from patchdm.diffusion.loss import Window, window_losses
from patchdm.diffusion.schedules import paper_scheduler
from patchdm.grid import PatchGrid, merge, positions, split
from patchdm.models import PatchUNet
from patchdm.official import joined
from patchdm.official.names import modulations, unet_names
from patchdm.sampling.denoise import Denoiser
from patchdm.sampling.tilings import Step
from patchdm.training.ema import Ema

OFFICIAL = "OFFICIAL"
Call = Callable[[], Tensor]


class Case(NamedTuple):
    """A network, the side of a canvas, and windows of a training step."""

    name: str
    sizes: dict[str, Any]
    side: int
    batch: int


CASES = [
    Case(
        "32 channels, p = 16, 64x64",
        {"patch_size": 16, "channels": (32, 64, 128, 256), "attention_levels": (2,)},
        64,
        32,
    ),
    Case("paper, p = 64, 256x256", {}, 256, 4),
]


def main() -> None:
    """Measure all cases, if the authors' code is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    if OFFICIAL not in os.environ:
        print(f"{OFFICIAL} is not set, expected the folder of the authors' code: not measured")
        return
    sys.path.insert(0, os.environ[OFFICIAL])
    sys.modules.setdefault("turtle", types.ModuleType("turtle")).forward = None  # type: ignore[attr-defined]
    torch.set_num_threads(args.threads)
    rows = [row for case in CASES for row in measure(case, args.repeats)]
    show(f"Against the authors' code, {describe(machine_peaks())}", rows)


def measure(case: Case, repeats: int) -> list[dict[str, object]]:
    """Return a row for each kind of step and way."""
    torch.manual_seed(0)
    unet = PatchUNet(**{"time_channels": 32 if case.sizes else 64, **case.sizes})
    awake(unet)
    theirs = authors_network(unet)
    unet.to(memory_format=torch.channels_last)
    rows = []
    for kind, make in {"sampling": sampling, "training": training}.items():
        calls = make(case, unet, theirs)
        first, second = (call() for call in list(calls.values())[:2])
        turns = interleaved(calls, repeats)
        rows += [
            {
                "network": case.name,
                "step": kind,
                "way": way,
                "s/step": f"{median(turns[way]):.4f}",
                "speed": f"{speedup(turns['authors'], turns[way]):.2f}x",
                "differ by": f"{(first - second).abs().max():.0e}",
            }
            for way in calls
        ]
    return rows


def authors_network(unet: PatchUNet) -> nn.Module:
    """Return the authors' network with our weights."""
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
    own = unet.state_dict()
    state = {key: joined(parts).detach() for key, parts in modulations(unet).items()}
    for ours, key in unet_names(unet):
        for leaf in ("weight", "bias"):
            if f"{ours}.{leaf}" in own:
                state[f"{key}.{leaf}"] = own[f"{ours}.{leaf}"]
    shapes = {key: weight.shape for key, weight in network.state_dict().items()}
    network.load_state_dict({key: state[key].reshape(shape) for key, shape in shapes.items()})
    return network


def sampling(case: Case, unet: PatchUNet, theirs: nn.Module) -> dict[str, Call]:
    """Return ways to predict one canvas."""
    p, side = unet.config.patch_size, case.side
    x_t, cond = torch.randn(1, 3, side, side), torch.randn(1, unet.config.cond_dim)
    grid, step = PatchGrid.of(side, side, p), Step(torch.tensor(500), 0, 1)
    places = positions(grid.rows, grid.cols, shifted=False)
    canvas = torch.empty(1, 3, side, side)

    @torch.no_grad()
    def authors() -> Tensor:
        theirs.eval()
        patches = split(pad(x_t, (p // 2,) * 4), p)
        given = {"pos": places, "imgs": canvas, "cond": cond, "patch_size": p}
        return merge(theirs(x=patches, t=step.t.reshape(1), **given).pred, grid.rows, grid.cols)

    def library(precision: str) -> Call:
        network = copy.deepcopy(unet).eval()
        cast(network, precision)
        denoiser = Denoiser(network, grid, cond)
        return torch.no_grad()(lambda: denoiser(x_t, step))

    return {"authors": authors, "patchdm": library("no"), "patchdm, bf16": library("bf16")}


def training(case: Case, unet: PatchUNet, theirs: nn.Module) -> dict[str, Call]:
    """Return ways to take a training step."""
    p, batch = unet.config.patch_size, case.batch
    pixels, noise = torch.rand(2, batch, 3, 2 * p, 2 * p).unbind()
    t, cond = torch.full((batch,), 500), torch.randn(batch, unet.config.cond_dim)
    scheduler, corner = paper_scheduler(), torch.zeros(batch, 2)
    places = positions(1, 1, shifted=False).repeat(batch, 1)
    whole, centre = torch.empty(batch, 3, p, p), slice(p // 2, p // 2 + p)
    x_t = scheduler.add_noise(pixels, noise, t)

    def authors_loss() -> Tensor:
        given = {"pos": places, "imgs": whole, "cond": cond, "patch_size": p, "do_train": True}
        made = theirs(x=split(x_t, p), t=t, index=torch.zeros(2), **given)
        shifted = mse_loss(made.pred, noise[..., centre, centre])
        return shifted + mse_loss(made.pred2, split(noise, p))

    offset = torch.zeros(batch, 2, dtype=torch.int64)
    window = Window(pixels, torch.ones(batch, 1, 2 * p, 2 * p), corner, offset)
    own = copy.deepcopy(unet).train()

    def loss(dtype: torch.dtype) -> Call:
        def compute() -> Tensor:
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                each = window_losses(own, window, t, cond, noise=noise, scheduler=scheduler)
            return torch.stack(list(each.values())).sum(dim=0).mean()

        return compute

    return {
        "authors": stepping(theirs.train(), authors_loss, fused=False),
        "patchdm": stepping(own, loss(torch.float32), fused=True),
        "patchdm, bf16": stepping(own, loss(torch.bfloat16), fused=True),
    }


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


if __name__ == "__main__":
    main()
