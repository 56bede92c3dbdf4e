"""What this machine achieves and has room for, before a run is begun on it."""

from __future__ import annotations

import itertools
import os
import platform
import re
import time
from pathlib import Path

import torch

from patchdm.config import Params
from patchdm.devices import device_for, precision, threads
from patchdm.diffusion.schedules import image_scheduler
from patchdm.models.build import build_code, build_unet
from patchdm.peaks import micro_batch, training_inputs
from patchdm.training.image import ImageTraining

SECONDS = 5
"""For which training steps are timed, after one that warms up."""
OPERATIONS = 1e11
"""FLOP of a step on a CPU, which needs no more to be busy: seconds of the paper's networks."""

CPUS = Path("/proc/cpuinfo")


def measured_tflops(params: Params, flops: float) -> tuple[str, float]:
    """Time training steps of a run's network; return what computes, and its TFLOP/s.

    Losses and gradients, as the run computes them but for torch.compile and the optimiser: on one
    GPU, or one thread of a CPU, times the number of those that the run has.

    Args:
        flops: of a training step, of one image.
    """
    deterministic = params.machine.deterministic
    device = torch.device(device_for(deterministic=deterministic, training=True))
    batch, (count, name) = micro_batch(params), _devices(device, params)
    if device.type == "cpu":
        batch = max(1, min(batch, round(OPERATIONS / flops)))
    half = precision(params.train.mixed_precision)
    dtype = torch.float16 if half == "fp16" else torch.bfloat16
    with torch.device(device), threads(1):
        unet, code = build_unet(params.model), build_code(params.model, 1)
        if params.train.channels_last:
            unet.to(memory_format=torch.channels_last)
        if params.train.gradient_checkpointing:
            unet.enable_gradient_checkpointing()
        module = ImageTraining(unet, code, image_scheduler(params.diffusion))
        inputs = {
            name: value if value is None else torch.zeros_like(value)
            for name, value in training_inputs(params, batch).items()
        }
        start = 0.0
        for steps in itertools.count():
            with torch.autocast(device.type, dtype, enabled=half != "no"):
                loss = module(**inputs)["loss"].mean()
            loss.backward()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if not steps:
                start = time.perf_counter()
            elif (seconds := time.perf_counter() - start) > SECONDS:
                return f"{count} x {name}", count * steps * batch * flops / seconds / 1e12
    raise AssertionError("unreachable")


def _devices(device: torch.device, params: Params) -> tuple[int, str]:
    """Return how many of which device share a training step."""
    processes = params.machine.processes
    if device.type == "cuda":
        return processes or 1, torch.cuda.get_device_name(device)
    try:
        names = re.findall(r"^model name\s*: (.*)", CPUS.read_text(), re.MULTILINE)
    except OSError:  # not Linux
        names = []
    cpu = names[0] if names else platform.processor() or platform.machine()
    return min(params.base.threads, os.cpu_count() or 1), f"core of {cpu}"
