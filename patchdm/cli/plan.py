"""What a run costs, known before it starts: parameters, arithmetic, memory, hours.

The networks are built on torch's meta device, whose tensors have shapes but no numbers. The
real training loss and the real sampling loop run on them in seconds, while torch counts the
floating-point operations of every matrix product and convolution (a multiplication and an
addition are two; all else is small next to them) and we the bytes that autograd keeps.
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
from patchdm.report.tables.paper import paper_numbers
from patchdm.sampling.codes import sample_codes
from patchdm.sampling.denoise import Denoiser
from patchdm.sampling.solvers import begin
from patchdm.sampling.tilings import Step
from patchdm.training.image import ImageTraining
from patchdm.training.latent import LatentTraining

STATE_BYTES = 20
"""A parameter in training: weight, gradient, Adam's two moments and EMA, in float32."""


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
    training_images: int  # of the patch store, mirror images included
    store_bytes: int
    parameters: dict[str, int]  # of "U-Net", "table" or "encoder", "latent model"
    train_flops: float  # loss and gradient of the image model
    activation_bytes: float  # what autograd keeps for the gradient, in float32
    sample_flops: int  # one image, its code and guidance included
    latent_flops: float  # loss and gradient of the latent model

    @property
    def state_bytes(self) -> int:
        """Bytes of all that the training of the image model keeps between two steps."""
        trained = {name: n for name, n in self.parameters.items() if name != "latent model"}
        return STATE_BYTES * sum(trained.values())


def workload(params: Params, photographs: int) -> Workload:
    """Count what a run costs with so many photographs."""
    data = params.data
    test = held_out(photographs, data.test_fraction)
    images = (photographs - test) * (2 if data.flips else 1)
    networks = meta_networks(params.model, params.latent, images)
    unet, code = networks["U-Net"], networks.get(params.model.code)
    latent = networks.get("latent model")
    train_flops, activation_bytes = _train_step(params, unet, code)
    return Workload(
        photographs=photographs,
        training_images=images,
        store_bytes=(images + test) * data.height * data.width * 3,
        parameters=count_parameters(networks),
        train_flops=train_flops,
        activation_bytes=activation_bytes,
        sample_flops=_sampling(params, unet, latent),
        latent_flops=_latent_step(params, latent) if latent else 0,
    )


def tabulate(
    params: Params, workload: Workload, tflops: float, paper: Paper | None
) -> pd.DataFrame:
    """Return the `workload` of a run as a table with columns quantity, value, unit, paper.

    `tflops` are what the device achieves, in 10^12 operations per second; `paper` has the
    references, if it is one of the paper's runs.
    """
    train, sample, latent = params.train, params.sample, params.latent
    batch = train.batch_size
    micro = train.micro_batch_size or batch // (params.machine.processes or 1)
    state, activations = workload.state_bytes, workload.activation_bytes
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
        ("memory: state", state / 1e9, "GB"),
        ("memory: activations of an image", activations / 1e9, "GB"),
        (f"memory: a process, {micro} images at once", (state + micro * activations) / 1e9, "GB"),
        ("training", train.images_seen * workload.train_flops / hour, "h"),
        ("latent training", latent.codes_seen * workload.latent_flops / hour, "h"),
        (f"{sample.num_images:,} samples", sample.num_images * workload.sample_flops / hour, "h"),
    ]
    table = pd.DataFrame(rows, columns=["quantity", "value", "unit"])
    column = dict(paper.column) if paper else {}
    if params.model.code != "encoder":
        column.pop("all parameters", None)  # what the paper and we count holds an encoder
    return table.assign(paper=[column.get(quantity, "") for quantity in table["quantity"]])


def gradient_cost(module: nn.Module, inputs: Mapping[str, Tensor | None]) -> tuple[int, int]:
    """Return the operations of a loss and its gradient, and the bytes that autograd keeps for it.

    `module(**inputs)` returns losses, of which "loss" is differentiated; all may be on device meta.
    Parameters do not count as kept.
    """
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[id(storage)] = storage
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with FlopCounterMode(display=False) as counter:
        with hooks:
            loss = module(**inputs)["loss"].mean()
        loss.backward()
    for parameter in module.parameters():
        kept.pop(id(parameter.untyped_storage()), None)
    return counter.get_total_flops(), sum(storage.nbytes() for storage in kept.values())


def _train_step(
    params: Params, unet: PatchUNet, code: CodeTable | SemanticEncoder | None
) -> tuple[float, float]:
    """Return the operations and the kept bytes of a training step, of one image each."""
    module = ImageTraining(unet, code, image_scheduler(params.diffusion))
    batch, side = params.train.batch_size, 2 * params.model.patch_size
    with torch.device("meta"):
        images = torch.empty(batch, 3, params.data.height, params.data.width)
        numbers = torch.empty(batch, dtype=torch.long)
        inputs = {
            "pixels": torch.empty(batch, 3, side, side),
            "inside": torch.empty(batch, 1, side, side),
            "corner": torch.empty(batch, 2),
            "offset": torch.empty(batch, 2, dtype=torch.long),
            "image": numbers,
            "whole": images if params.model.code == "encoder" else None,
            "keep_code": torch.empty(batch, 1),
            "t": numbers,
            "noise": torch.empty(batch, 3, side, side),
        }
    flops, kept = gradient_cost(module, inputs)
    return flops / batch, kept / batch


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
    flops, _ = gradient_cost(module, {"codes": codes, "image": t, "t": t, "noise": codes})
    return flops / batch
