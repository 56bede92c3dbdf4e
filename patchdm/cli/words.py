"""What the commands share: their words, models and defaults."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import torch
from diffusers.utils.logging import disable_progress_bar

from patchdm.config import Params, load_params
from patchdm.devices import default_device
from patchdm.errors import PatchDMError, one_line
from patchdm.models.build import build_unet
from patchdm.pipeline import PatchDMPipeline
from patchdm.sampling.generate import END_OF_SEEDS

log = logging.getLogger(__name__)

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
            f"--seeds: found {text}, expected FIRST:END with FIRST below END, such as 0:16"
        )
    return seeds


def parse_size(text: str) -> tuple[int, int]:
    """Read WIDTHxHEIGHT; return height, width.

    Raises:
        PatchDMError: it is malformed.
    """
    match = re.fullmatch(r"(\d+)x(\d+)", text, re.ASCII)
    if not match:
        raise PatchDMError(f"--size: found {text}, expected WIDTHxHEIGHT, e.g. 1024x512")
    return int(match[2]), int(match[1])


def load_pipeline(model: Path, device: str | None) -> PatchDMPipeline:
    """Load a folder of `save_pretrained`, or the one that the training stages write.

    Args:
        model: the folder.
        device: as torch names it; None: a GPU where there is one.

    Raises:
        PatchDMError: it is neither, a part is missing or damaged, or there is no such device.
    """
    disable_progress_bar()
    if (model / "model_index.json").is_file():
        pipe = _saved(model)
    elif (model / "patchdm").is_dir():
        pipe = _of_stages(model / "patchdm", model / "latent")
    else:
        raise PatchDMError(
            f"{model}: found neither model_index.json nor patchdm/, expected a folder of "
            "save_pretrained or import-official, and data/models of a run"
        )
    try:
        return pipe.to(device or default_device())
    except (RuntimeError, AssertionError) as error:
        raise PatchDMError(f"--device: found {device}: {one_line(error)}") from None


def run_of(model: Path, pipe: PatchDMPipeline) -> Params | None:
    """Return the params.yaml of the run that a model is of; None: it stands alone.

    That is one of `ROOT/data/models`, however it is named, if `ROOT/params.yaml` describes its
    network. Another project's file does not; a warning then says that it is passed over.

    Args:
        model: a folder as in `load_pipeline`.
        pipe: what that returned.
    """
    folder = model.resolve()
    file = Path(*folder.parts[:-2], "params.yaml")
    alone = folder.parts[-2:] != ("data", "models") or (folder / "model_index.json").is_file()
    if alone or not file.is_file():
        return None
    try:
        run = load_params(file)
        reason = "" if _describes(run, pipe) else "it describes another network"
    except PatchDMError as error:
        reason = str(error)
    if reason:
        log.warning("warning: %s: passed over for %s: %s", file, model, reason)
        return None
    if run.features.weights is None:
        return run
    weights = str(file.parent / run.features.weights)
    return run.model_copy(update={"features": run.features.model_copy(update={"weights": weights})})


def _describes(run: Params, pipe: PatchDMPipeline) -> bool:
    """Say whether a run trains a network like that of a pipeline, for the same noise."""
    with torch.device("meta"):
        unet = build_unet(run.model, (run.data.height, run.data.width))
    pairs = [(run.diffusion.model_dump(), pipe.scheduler.config), (unet.config, pipe.unet.config)]
    return all(
        json.dumps(value) == json.dumps(found.get(key))  # which makes lists of tuples
        for expected, found in pairs
        for key, value in expected.items()
        if not key.startswith("_") and key != "unconditional"
    )


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def _saved(model: Path) -> PatchDMPipeline:
    """Load a folder of `save_pretrained`."""
    try:
        kind = json.loads((model / "model_index.json").read_bytes())["_class_name"]
    except (ValueError, KeyError, TypeError):
        raise PatchDMError(f"{model}/model_index.json: not that of a pipeline") from None
    if kind != PatchDMPipeline.__name__:
        raise PatchDMError(f"{model}: found a {kind}, expected a {PatchDMPipeline.__name__}")
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
