"""A folder in which the model stages can run, in this process or as commands of their own."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ruamel.yaml import YAML

from patchdm.config import Params
from patchdm.diffusion.schedules import image_scheduler, latent_scheduler
from patchdm.models.build import build_latent, build_unet
from stages._common import FEATURES, PARAMS, PATCHDM, PATCHES, STATE
from stages._common import LATENT as LATENT_MODEL
from stages.cache_features import cache_features
from tests.conftest import REPO
from tests.networks import awake
from tests.photographs import contents
from tests.stages.tiny import tiny_params, write_tiny_store

TRAIN = {
    "images_seen": 64,
    "batch_size": 8,
    "log_every": 16,
    "checkpoint_every": 32,
    "sheet_every": 64,
}
LATENT = {"codes_seen": 256, "batch_size": 16, "log_every": 64, "checkpoint_every": 64}


def small_params(**changes: dict[str, Any]) -> Params:
    """Return parameters of trainings of a second."""
    sections = {"train": TRAIN, "latent": LATENT}
    for name, section in changes.items():
        sections[name] = sections.get(name, {}) | section
    return tiny_params(**sections)


def write_inputs(folder: Path, landscapes: Path, params: Params) -> None:
    """Write patch store, features and params.yaml into the working folder."""
    write_tiny_store(folder / PATCHES, landscapes)
    if params.model.code == "table":
        cache_features(params)
    else:
        (folder / FEATURES).write_bytes(b"")  # the other codes never read it
    write_params(folder / PARAMS, params)


def write_params(path: Path, params: Params) -> None:
    """Write the params.yaml that a stage of its own process reads."""
    with path.open("w") as file:
        YAML(typ="safe", pure=True).dump(params.model_dump(), file)


def write_models(params: Params) -> None:
    """Write untrained models where the training stages write theirs."""
    torch.manual_seed(0)
    size = params.data.height, params.data.width
    awake(build_unet(params.model, size, params.train)).save_pretrained(PATCHDM / "unet")
    image_scheduler(params.diffusion).save_pretrained(PATCHDM / "scheduler")
    LATENT_MODEL.mkdir(parents=True, exist_ok=True)
    if params.model.code != "none":
        latent = awake(build_latent(params.latent, params.model.code_dim))
        latent.save_pretrained(LATENT_MODEL / "latent")
        latent_scheduler(params.latent.beta).save_pretrained(LATENT_MODEL / "scheduler")


def start(stage: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a stage as DVC does, in the working folder."""
    return subprocess.Popen(
        [sys.executable, "-m", f"stages.{stage}", *arguments],
        env=os.environ | {"PYTHONPATH": str(REPO)},
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_amid(stage: str, pattern: str, *arguments: str) -> None:
    """Start a stage and kill it at a random moment after a new file of its state appears."""
    before = set((STATE / stage).rglob(pattern))
    process = start(stage, *arguments)
    wait_for(process, lambda: set((STATE / stage).rglob(pattern)) - before)
    time.sleep(random.uniform(0, 0.1))
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors


def holds(condition: Callable[[], Any]) -> Any:
    """Return what a condition gives; nothing, if a folder vanished that it read."""
    try:
        return condition()
    except FileNotFoundError:
        return None


def wait_for(process: subprocess.Popen[str], happened: Any) -> None:
    deadline = time.monotonic() + 60
    while not holds(happened) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    assert process.poll() is None, process.communicate()[1]


def bytes_of(*folders: Path) -> dict[str, bytes]:
    """Return all files below some folders by name."""
    return {
        f"{folder}/{name}": content
        for folder in folders
        for name, content in contents(folder).items()
    }
