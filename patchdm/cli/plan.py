"""What a run costs, known before it starts: parameters, arithmetic, memory, hours.

The networks are built on torch's meta device, whose tensors have shapes but no numbers. The
real training loss and the real sampling loop run on them in seconds, while torch counts the
floating-point operations of every matrix product and convolution (a multiplication and an
addition are two; all else is small next to them). patchdm/peaks.py has the memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from patchdm.config import Params
from patchdm.diffusion.schedules import image_scheduler, latent_scheduler
from patchdm.extract.splits import held_out
from patchdm.grid import PatchGrid
from patchdm.models.latent import LatentMLP
from patchdm.models.parts import count_parameters, meta_networks
from patchdm.models.semantic import CodeTable, SemanticEncoder
from patchdm.models.unet import PatchUNet
from patchdm.peaks import Peaks, micro_batch, training_inputs
from patchdm.report.tables.paper import paper_numbers
from patchdm.sampling.codes import sample_codes
from patchdm.sampling.denoise import Denoiser
from patchdm.sampling.solvers import begin
from patchdm.sampling.tilings import Step
from patchdm.training.image import ImageTraining
from patchdm.training.latent import LatentTraining

MEMORIES = (24, 40, 80)
"""GB of the GPUs for which the largest number of images that are sampled together is shown."""


@dataclass(frozen=True)
class Paper:
    """What is known of the paper's run of a preset: see patchdm/report/tables/paper.csv."""

    photographs: int  # of the data set
    column: dict[str, str]  # row of `tabulate` -> numbers with their tags


def _papers() -> dict[str, Paper]:
    runs = paper_numbers("run")
    known = [n for n in paper_numbers("parameters") if n.model == "Patch-DM"] + runs
    papers = {}
    for photographs in (n for n in runs if n.quantity == "photographs" and n.value):
        column: dict[str, str] = {}
        for number in known:
            if number.data in ("", photographs.data):
                quotes = [column[number.quantity]] if number.quantity in column else []
                quotes.append(number.quote(decimals=2 if number.tag == "counted" else 0))
                column[number.quantity] = ", ".join(quotes)
        papers[photographs.data] = Paper(int(photographs.value or 0), column)
    return papers


PAPER = _papers()
"""The paper's presets by name."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The counts of a run; operations (FLOP) and activations are those of one image or code."""

    photographs: int  # in the data set, of which some are held out
    training_images: int  # of the patch store
    store_bytes: int
    parameters: dict[str, int]  # of "U-Net", "table" or "encoder", "latent model"
    train_flops: float  # loss and gradient of the image model
    sample_flops: int  # one image, its code and guidance included
    latent_flops: float  # loss and gradient of the latent model


def workload(params: Params, photographs: int) -> Workload:
    """Count what a run costs with so many photographs."""
    data = params.data
    test = held_out(photographs, data.test_fraction)
    images = (photographs - test) * (data.views + data.flips)
    networks = meta_networks(params.model, params.latent, images)
    unet, code = networks["U-Net"], networks.get(params.model.code)
    latent = networks.get("latent model")
    return Workload(
        photographs=photographs,
        training_images=images,
        store_bytes=(images + test * data.views) * data.height * data.width * 3,
        parameters=count_parameters(networks),
        train_flops=_train_step(params, unet, code),
        sample_flops=_sampling(params, unet, latent),
        latent_flops=_latent_step(params, latent) if latent else 0,
    )


def tabulate(
    params: Params, workload: Workload, peaks: Peaks, tflops: float, paper: Paper | None
) -> pd.DataFrame:
    """Return `workload` and `peaks` of a run as a table with columns quantity, value, unit, paper.

    `tflops` are what the device achieves, in 10^12 operations per second; `paper` has the
    references, if it is one of the paper's runs.
    """
    train, sample, latent = params.train, params.sample, params.latent
    batch, together = train.batch_size, sample.batch_size
    hour = tflops * 1e12 * 3600
    rows = [(name, n / 1e6, "M") for name, n in workload.parameters.items()]
    rows += [
        ("all parameters", sum(workload.parameters.values()) / 1e6, "M"),
        ("photographs", workload.photographs, ""),
        ("training images", workload.training_images, ""),
        ("patch store on disk", workload.store_bytes / 1e9, "GB"),
        ("images seen", train.images_seen / 1e6, "M"),
        ("batch", batch, ""),
        ("training step, an image", workload.train_flops / 1e9, "GFLOP"),
        ("training step, a batch", batch * workload.train_flops / 1e9, "GFLOP"),
        (f"sampled image, {sample.num_steps} steps", workload.sample_flops / 1e9, "GFLOP"),
        ("codes seen", latent.codes_seen / 1e6, "M"),
        ("latent step, a code", workload.latent_flops / 1e9, "GFLOP"),
        ("memory: state of the training", peaks.state / 1e9, "GB"),
        (f"memory: training, {micro_batch(params)} at once", peaks.training / 1e9, "GB"),
        ("memory: a sheet next to it", peaks.sheet / 1e9, "GB"),
        (f"memory: sampling, {together} at once", peaks.sampling(together) / 1e9, "GB"),
        *((f"sampled at once in {memory} GB", peaks.most(memory), "") for memory in MEMORIES),
        ("training", train.images_seen * workload.train_flops / hour, "h"),
        ("latent training", latent.codes_seen * workload.latent_flops / hour, "h"),
        (f"{sample.num_images:,} samples", sample.num_images * workload.sample_flops / hour, "h"),
    ]
    table = pd.DataFrame(rows, columns=["quantity", "value", "unit"])
    column = dict(paper.column) if paper else {}
    if params.model.code != "encoder":
        column.pop("all parameters", None)  # what the paper and we count holds an encoder
    return table.assign(paper=[column.get(quantity, "") for quantity in table["quantity"]])


def gradient_flops(module: nn.Module, inputs: Mapping[str, Tensor | None]) -> int:
    """Return the operations of a loss and its gradient.

    `module(**inputs)` returns losses, of which "loss" is differentiated; all may be on device meta.
    """
    with FlopCounterMode(display=False) as counter:
        module(**inputs)["loss"].mean().backward()
    return counter.get_total_flops()


def _train_step(params: Params, unet: PatchUNet, code: CodeTable | SemanticEncoder | None) -> float:
    """Return the operations of a training step, of one image."""
    module, batch = (
        ImageTraining(unet, code, image_scheduler(params.diffusion)),
        params.train.batch_size,
    )
    with torch.device("meta"):
        inputs = training_inputs(params, batch)
    return gradient_flops(module, inputs) / batch


def _sampling(params: Params, unet: PatchUNet, latent: LatentMLP | None) -> int:
    """Return the operations of sampling one image."""
    sample, data = params.sample, params.data
    first, last = sample.guidance_interval
    x_T = torch.empty(1, 3, data.height, data.width, device="meta")
    code = torch.empty(1, params.model.code_dim, device="meta")
    denoiser = Denoiser(
        unet,
        PatchGrid.of(data.height, data.width, params.model.patch_size),
        code if latent else None,
        tiling=sample.tiling,
        guidance=lambda t: sample.guidance_scale if first <= t < last else 0.0,
    )
    times = begin(image_scheduler(params.diffusion), sample.num_steps)
    kinds = Counter(denoiser.plan(Step(t, index, len(times))) for index, t in enumerate(times))
    flops = 0
    for (patches, guidance_scale), steps in kinds.items():
        predict = partial(denoiser.predict, x_T, times[:1], patches, guidance_scale)
        once = _operations(predict)  # with what is computed once for all steps
        flops += once + (steps - 1) * _operations(predict)
    if latent is not None:
        scheduler = latent_scheduler(params.latent.beta)
        one_step = partial(sample_codes, latent, scheduler, code, num_steps=1)
        flops += params.latent.num_steps * _operations(one_step)
    return flops


@torch.no_grad()
def _operations(compute: Callable[[], Tensor]) -> int:
    """Return the operations of a computation."""
    with FlopCounterMode(display=False) as counter:
        compute()
    return counter.get_total_flops()


def _latent_step(params: Params, latent: LatentMLP) -> float:
    """Return the operations of a latent training step, of one code."""
    batch = params.latent.batch_size
    with torch.device("meta"):
        codes = torch.empty(batch, params.model.code_dim)
        t = torch.empty(batch, dtype=torch.long)
    module = LatentTraining(latent, latent_scheduler(params.latent.beta))
    return gradient_flops(module, {"codes": codes, "image": t, "t": t, "noise": codes}) / batch
