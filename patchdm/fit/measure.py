"""What this machine does in a second, measured in some seconds, by a process per core or a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from patchdm.backbones.load import load_backbone
from patchdm.config import Params
from patchdm.devices import default_device, device_for, precision, threads
from patchdm.diffusion.schedules import image_scheduler, latent_scheduler
from patchdm.fit.estimate import Rates
from patchdm.models.build import build_code, build_latent, build_unet
from patchdm.parallel import shared
from patchdm.peaks import training_inputs
from patchdm.training.ema import Ema
from patchdm.training.image import ImageTraining, image_optimizer
from patchdm.training.latent import LatentTraining, latent_optimizer

SECONDS = 3.0
"""For which each kind of work is timed, after one step that warms up."""
_REST = 0.92
"""A training also draws, waits for its other processes, saves and shows: see docs/results.md."""


def measure(params: Params, photographs: float) -> Rates:
    """Measure the networks of a run. `photographs` are decoded in a second: see `look`."""
    config = params.train
    if default_device() == "cuda":
        found = _work(params, config.batch_size // (params.machine.processes or 1))
        gpus = params.machine.processes or 1
        together = [number * gpus for number in found]
    else:
        shares = config.cpu_shares(params.base.threads)
        # A call of `shared` is one item for each of its processes.
        with shared(_Work(params, config.batch_size // shares), shares, knob="cores") as mapped:
            together = [sum(each) for each in zip(*mapped(range(shares)), strict=True)]
    windows, flops, features = together
    return Rates(
        windows=_REST * windows,
        codes=_codes(params),
        features=features,
        flops=flops,
        photographs=photographs,
    )


class _Work:
    """`_work` as a function of one argument, for `shared`."""

    def __init__(self, params: Params, share: int) -> None:
        self._params, self._share = params, share

    def __call__(self, _number: int) -> tuple[float, float, float]:
        return _work(self._params, self._share)


def _work(params: Params, share: int) -> tuple[float, float, float]:
    """Return windows of the training, operations of sampling and images of the backbone, per s.

    `share` windows are trained on at once.
    """
    with threads(1):
        return _windows(params, share), _flops(params), _features(params)


def _windows(params: Params, share: int) -> float:
    config = params.train
    device = torch.device(device_for(deterministic=False, training=True))
    half = precision(config.mixed_precision)
    with torch.device(device):
        unet, code = build_unet(params.model), build_code(params.model, share)
        module = ImageTraining(unet, code, image_scheduler(params.diffusion))
        if config.channels_last:
            module.to(memory_format=torch.channels_last)
        optimizer, ema = image_optimizer(module, config), Ema(module.parameters())
        inputs = {
            name: value if value is None else torch.zeros_like(value)
            for name, value in training_inputs(params, share).items()
        }

        def step() -> None:
            dtype = torch.float16 if half == "fp16" else torch.bfloat16
            with torch.autocast(device.type, dtype, enabled=half != "no"):
                loss = module(**inputs)["loss"].mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), config.grad_clip)
            optimizer.step()
            optimizer.zero_grad()
            ema.update(module.parameters(), config.ema_decay)

        return share * _times_a_second(step)


def _flops(params: Params) -> float:
    """Return the operations per second of the network without gradients, in float32."""
    device = torch.device(default_device())
    with torch.no_grad(), torch.device(device):
        unet, code = build_unet(params.model), build_code(params.model, 16)
        module = ImageTraining(unet, code, image_scheduler(params.diffusion)).eval()
        inputs = {
            name: value if value is None else torch.zeros_like(value)
            for name, value in training_inputs(params, 16).items()
        }
        with FlopCounterMode(display=False) as counter:
            module(**inputs)
        return counter.get_total_flops() * _times_a_second(lambda: module(**inputs))


def _features(params: Params) -> float:
    batch, features = 16, params.features
    backbone = load_backbone(features.backbone, None, default_device())
    images = torch.zeros(batch, 3, params.data.height, params.data.width, dtype=torch.uint8)
    pixels = images.permute(0, 2, 3, 1).numpy()
    return batch * _times_a_second(lambda: backbone.features(pixels))


def _codes(params: Params) -> float:
    """Return the codes per second of the latent model's training, which has one thread."""
    config, batch = params.latent, params.latent.batch_size
    with threads(1), torch.device(default_device()):
        latent = build_latent(config, params.model.code_dim)
        module = LatentTraining(latent, latent_scheduler(config.beta))
        optimizer, ema = latent_optimizer(module, config), Ema(module.parameters())
        codes, t = torch.zeros(batch, params.model.code_dim), torch.zeros(batch, dtype=torch.long)

        def step() -> None:
            module(codes=codes, image=t, t=t, noise=codes)["loss"].mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            ema.update(module.parameters(), config.ema_decay)

        return _REST * batch * _times_a_second(step)


def _times_a_second(work: Callable[[], object]) -> float:
    """Repeat some work for SECONDS, after once to warm up; return how often it is done."""
    work()
    _wait()
    start, times = time.perf_counter(), 0
    while (seconds := time.perf_counter() - start) < SECONDS:
        work()
        _wait()
        times += 1
    return times / seconds


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
