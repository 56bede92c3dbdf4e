"""Peak memory of a device, known without it: real code runs on tensors that have no numbers.

Every storage counts from the operation that returns it until nothing refers to it. (torch's
MemTracker gives the same peak, measured, at four times the seconds.) What a kernel needs within is
not seen, nor the device's own context and fragmentation: `USABLE` leaves room for them.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from patchdm.config import Params
from patchdm.devices import cast, precision
from patchdm.diffusion.schedules import image_scheduler, latent_scheduler
from patchdm.errors import PatchDMError
from patchdm.models import PatchUNet
from patchdm.models.build import build_code, build_unet
from patchdm.models.parts import meta_networks
from patchdm.pipeline import PatchDMPipeline
from patchdm.sampling.denoise import BAND_NUMBERS, predict_eps, row_numbers
from patchdm.sampling.seeds import sampling_options
from patchdm.sampling.solvers import solver
from patchdm.training.ema import Ema
from patchdm.training.image import ImageTraining, image_optimizer
from patchdm.training.sheets import IMAGES, sample_sheet

USABLE = 0.9
"""Share of a device's memory that tensors may fill."""
_STEPS = 3
"""Of a solver: the first, the last, and one between, after which a canvas costs the same."""
_BANDS = 3
"""Of a canvas, likewise."""


class LiveBytes(TorchDispatchMode):
    """Count the bytes of the tensors on a type of device that operations within make."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device
        self.now = self.peak = 0
        self._counted: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and tensor.device.type == self.device:
                self._count(tensor.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        if (name := id(storage)) not in self._counted:
            self._counted.add(name)
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, name, storage.nbytes())

    def _forget(self, name: int, size: int) -> None:
        self._counted.remove(name)
        self.now -= size


@dataclass(frozen=True, kw_only=True)
class Peaks:
    """Bytes that a run takes on one device."""

    state: int  # between two steps of the training
    training: int  # within a step
    sheet: int  # of samples, next to the training
    first: int  # sampling one image
    each: int  # sampling one image more at the same time

    def sampling(self, batch: int) -> int:
        """Return the bytes of sampling so many images together."""
        return self.first + (batch - 1) * self.each

    def most(self, memory: float) -> int:
        """Return how many images can be sampled together in so many GB; 0: none."""
        return max(0, int((USABLE * memory * 1e9 - self.first) // self.each) + 1)


def peaks(params: Params, images: int) -> Peaks:
    """Return the memory of a run with so many training images."""
    state, training = _training(params, images, micro_batch(params))
    first, second = (_sampling(params, images, batch) for batch in (1, 2))
    return Peaks(
        state=state,
        training=training,
        sheet=state + _sheet(params, images),
        first=first,
        each=second - first,
    )


def micro_batch(params: Params) -> int:
    """Return how many windows a GPU trains on at once."""
    train = params.train
    return train.micro_batch_size or train.batch_size // (params.machine.processes or 1)


def check_memory(params: Params, images: int, memory: float, known: Peaks | None = None) -> None:
    """Refuse a run with so many training images that does not fit a device of so many GB.

    Its peaks take seconds, if they are not `known`.

    Raises:
        PatchDMError: its training, a sheet of it or its sampling needs too much.
    """
    found = known or peaks(params, images)
    limit, batch = USABLE * memory * 1e9, params.sample.batch_size
    most = found.most(memory)
    for what, needed, cure in (
        (
            f"train.micro_batch_size is {micro_batch(params)}: training",
            found.training,
            "use a smaller one, or train.gradient_checkpointing",
        ),
        ("a sheet of samples next to the training", found.sheet, "use smaller images"),
        (
            f"sample.batch_size is {batch}: sampling",
            found.sampling(batch),
            f"use {most} or fewer" if most else "use machine.rows_per_chunk",
        ),
    ):
        if needed > limit:
            raise PatchDMError(
                f"{what} needs {needed / 1e9:.3g} GB, expected at most {limit / 1e9:.3g}, "
                f"{USABLE:.0%} of the device's (machine.device_memory): {cure}"
            )


def predicting(
    unet: PatchUNet,
    height: int,
    width: int,
    *,
    rows_per_chunk: int | None = None,
    tiling: str = "shifted",
    guidance_scale: float = 0.0,
) -> int:
    """Return the bytes that a network takes to predict a canvas, beside weights, canvas and result.

    Args:
        unet: the network, where it computes.
        height, width: of the canvas in pixels, multiples of the patch size.
        rows_per_chunk, tiling, guidance_scale: as in `predict_eps`.
    """
    p = unet.config.patch_size
    rows = rows_per_chunk or height // p
    if unet.device.type == "cpu":
        rows = max(1, BAND_NUMBERS // row_numbers(unet, width // p))
    shown = min(height, (_BANDS * rows + 1) * p)  # a higher canvas takes no more
    with torch.device("meta"):
        network = PatchUNet.from_config(unet.config)
    nn.Module.to(network, unet.dtype)  # as in `cast`
    options: dict[str, Any] = {
        "tiling": tiling,
        "guidance_scale": guidance_scale,
        "rows_per_chunk": rows,
    }
    with torch.no_grad(), torch.device("meta"), LiveBytes("meta") as live:
        x_t = torch.empty(1, unet.config.in_channels, shown, width)
        predict_eps(network, x_t, torch.zeros(1), None, **options)
    return live.peak - 2 * x_t.nbytes


def _training(params: Params, images: int, micro: int) -> tuple[int, int]:
    """Return the bytes that are left after an optimiser's step, and the peak.

    The device is a CPU: without a GPU torch computes no gradients on it, and does not cast for it.
    """
    train = params.train
    half = precision(train.mixed_precision) != "no"
    again = train.batch_size > micro * (params.machine.processes or 1)
    with FakeTensorMode(), LiveBytes("cpu") as live:
        unet, code = build_unet(params.model), build_code(params.model, images)
        module = ImageTraining(unet, code, image_scheduler(params.diffusion))
        if train.gradient_checkpointing:
            unet.enable_gradient_checkpointing()
        optimizer = image_optimizer(module, train)
        ema, average = (Ema(module.parameters()) for _ in range(2))  # the second is for sheets
        for parameter in module.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()  # only for its state, which a first step of the training does not have
        optimizer.zero_grad()
        for _ in range(1 + again):  # gradients wait for those of the next micro-batch
            inputs = training_inputs(params, micro)
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                loss = module(**inputs)["loss"].mean()
            loss.backward()
            del inputs, loss
        torch.nn.utils.clip_grad_norm_(module.parameters(), train.grad_clip)
        optimizer.step()
        optimizer.zero_grad()
        ema.update(module.parameters(), train.ema_decay)
        state = live.now
        del average
    return state, live.peak


def _sheet(params: Params, images: int) -> int:
    """Return the peak of a sheet of samples, next to the networks."""
    networks = meta_networks(params.model, params.latent, images)
    code = networks.get(params.model.code)
    average = ImageTraining(networks["U-Net"], code, image_scheduler(params.diffusion)).eval()
    size, numbers = (params.data.height, params.data.width), torch.zeros(IMAGES, dtype=torch.long)
    chosen = numbers if params.model.code == "table" else torch.zeros(IMAGES, 3, *size)
    with LiveBytes("meta") as live:
        sample_sheet(average, chosen, size, num_steps=_STEPS)
    return live.peak


def _sampling(params: Params, images: int, batch: int) -> int:
    """Return the peak of sampling `batch` images together, by models of so many images."""
    sample = params.sample
    networks = meta_networks(params.model, params.latent, images)
    cast(networks["U-Net"], sample.mixed_precision)
    schedulers = image_scheduler(params.diffusion), latent_scheduler(params.latent.beta)
    with LiveBytes("meta") as live:
        pipe = PatchDMPipeline(
            networks["U-Net"],
            solver(schedulers[0], sample.solver),
            *((networks["latent model"], schedulers[1]) if "latent model" in networks else ()),
        )
        pipe.set_progress_bar_config(disable=True)
        options = sampling_options(params) | {
            "num_inference_steps": min(sample.num_steps, _STEPS),
            "latent_num_inference_steps": 1,
            "guidance_interval": None,
            "code": "latent",
        }
        pipe(batch, params.data.height, params.data.width, output_type="latent", **options)
    weights = sum(p.nbytes for network in networks.values() for p in network.parameters())
    return weights + live.peak


def training_inputs(params: Params, batch: int) -> dict[str, Tensor | None]:
    """Return what `ImageTraining.forward` takes of a batch, without values that mean anything."""
    side, numbers = 2 * params.model.patch_size, torch.zeros(batch, dtype=torch.long)
    pixels = torch.empty(batch, side, side, 3, dtype=torch.uint8)
    whole = torch.empty(batch, params.data.height, params.data.width, 3, dtype=torch.uint8)
    return {
        "pixels": pixels,
        "inside": torch.empty(batch, 1, side, side),
        "corner": torch.empty(batch, 2),
        "offset": torch.zeros(batch, 2, dtype=torch.long),
        "image": numbers,
        "whole": whole if params.model.code == "encoder" else None,
        "keep_code": torch.empty(batch, 1),
        "t": numbers.clone(),
        "noise": torch.empty(batch, 3, side, side),
    }
