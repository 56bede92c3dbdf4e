"""What the commands share: their words, models and defaults."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import logging

from patchdm.config import Params, load_params
from patchdm.errors import PatchDMError
from patchdm.pipeline import PatchDMPipeline
from patchdm.sampling.generate import END_OF_SEEDS

PAPER_STEPS = {"num_inference_steps": 50}
"""What is taken where neither the command nor a run says how many."""


def parse_seeds(text: str) -> range:
    """Read FIRST:END, as Python counts.

    Raises:
        PatchDMError: it is malformed, or the range is empty.
    """
    match = re.fullmatch(r"(\d+):(\d+)", text, re.ASCII)
    seeds = range(int(match[1]), int(match[2])) if match else range(0)
    if not seeds or seeds.stop > END_OF_SEEDS:
        raise PatchDMError(
            f"--seeds: found {text}, allowed are FIRST:END with FIRST below END, such as 0:16"
        )
    return seeds


def parse_size(text: str) -> tuple[int, int]:
    """Read WIDTHxHEIGHT; return height, width.

    Raises:
        PatchDMError: it is malformed.
    """
    match = re.fullmatch(r"(\d+)x(\d+)", text, re.ASCII)
    if not match:
        raise PatchDMError(f"--size: found {text}, allowed is WIDTHxHEIGHT, e.g. 1024x512")
    return int(match[2]), int(match[1])


def load_pipeline(model: Path, device: str | None) -> PatchDMPipeline:
    """Load a folder of `save_pretrained`, or the one that the training stages write.

    Args:
        model: the folder.
        device: as torch names it; None: a GPU where there is one.

    Raises:
        PatchDMError: it is neither, a part is missing or damaged, or there is no such device.
    """
    logging.disable_progress_bar()
    if (model / "model_index.json").is_file():
        pipe = _saved(model)
    elif (model / "patchdm").is_dir():
        pipe = _of_stages(model / "patchdm", model / "latent")
    else:
        raise PatchDMError(
            f"{model}: found neither model_index.json nor patchdm/, allowed are a folder of "
            "save_pretrained or import-official, and data/models of a run"
        )
    try:
        return pipe.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except (RuntimeError, AssertionError) as error:
        raise PatchDMError(f"--device: found {device}: {one_line(error)}") from None


def run_of(model: Path) -> Params | None:
    """Return the params.yaml beside a run's data/models; None: the model stands alone."""
    params_file = model.parent.parent / "params.yaml"
    if (model / "model_index.json").is_file() or not params_file.is_file():
        return None
    return load_params(params_file)


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def one_line(error: Exception) -> str:
    """Return what an error says, without line breaks."""
    return " ".join(str(error).split())


def _saved(model: Path) -> PatchDMPipeline:
    """Load a folder of `save_pretrained`."""
    try:
        kind = json.loads((model / "model_index.json").read_bytes())["_class_name"]
    except (ValueError, KeyError, TypeError):
        raise PatchDMError(f"{model}/model_index.json: not that of a pipeline") from None
    if kind != PatchDMPipeline.__name__:
        raise PatchDMError(f"{model}: found a {kind}, allowed is a {PatchDMPipeline.__name__}")
    try:
        pipe = PatchDMPipeline.from_pretrained(model, local_files_only=True)
    except (OSError, ValueError, TypeError, AttributeError, ImportError) as error:
        raise PatchDMError(f"{model}: no readable model: {one_line(error)}") from None
    pipe.unet.to(memory_format=torch.channels_last)  # the faster layout
    return pipe


def _of_stages(image_model: Path, latent_model: Path) -> PatchDMPipeline:
    """Load what the training stages wrote."""
    parts = [image_model / "unet", image_model / "scheduler"]
    # Without a global code there is no latent model, and its folder is empty.
    has_latent = any(latent_model.glob("*"))
    if has_latent:
        parts += [latent_model / "latent", latent_model / "scheduler"]
    for part in parts:
        if not part.is_dir():
            raise PatchDMError(f"{part}: not found, {image_model.parent} is not a whole model")
    return PatchDMPipeline.from_stages(image_model, latent_model if has_latent else None)
