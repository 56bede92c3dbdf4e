"""The models of `patchdm sample`, `inpaint` and `outpaint`, and the runs that these are of."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import torch
from diffusers.utils.logging import disable_progress_bar, set_verbosity

from patchdm.config import Params, load_params
from patchdm.devices import default_device
from patchdm.errors import PatchDMError, one_line
from patchdm.memory import keep_freed_memory
from patchdm.models.build import build_unet
from patchdm.pipeline import PatchDMPipeline
from patchdm.saved import INDEX, parts, read_index

log = logging.getLogger(__name__)


def load_pipeline(model: Path, device: str | None) -> PatchDMPipeline:
    """Load a folder of `save_pretrained`, or the one that the training stages write.

    `device` is as torch names it; None: a GPU where there is one.

    Raises:
        PatchDMError: a part is missing or damaged, or there is no such device.
    """
    disable_progress_bar()
    set_verbosity(logging.CRITICAL)  # its errors are raised, too
    keep_freed_memory()
    if (model / INDEX).is_file():
        pipe = _saved(model)
    else:
        latent = model / "latent"  # empty without a global code
        has_code = any(latent.glob("*"))
        pipe = PatchDMPipeline.from_stages(model / "patchdm", latent if has_code else None)
    coded = pipe.code_table is not None or pipe.encoder is not None
    if coded and pipe.latent is None:
        log.warning(
            "warning: %s: found no latent model, from which codes are drawn: samples have none",
            model,
        )
    try:
        return pipe.to(device or default_device())
    except (RuntimeError, AssertionError) as error:
        raise PatchDMError(f"--device: found {device}: {one_line(error)}") from None


def run_of(model: Path, pipe: PatchDMPipeline) -> Params | None:
    """Return the params.yaml of the run that a model is of; None: it stands alone.

    That is one of `ROOT/data/models`, however it is named, if `ROOT/params.yaml` describes its
    network. Another project's file does not; a warning then says that it is passed over.
    """
    folder = model.resolve()
    file = Path(*folder.parts[:-2], "params.yaml")
    alone = folder.parts[-2:] != ("data", "models") or (folder / INDEX).is_file()
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


def _saved(model: Path) -> PatchDMPipeline:
    """Load a folder of `save_pretrained`."""
    for part in parts(read_index(model, str(model))):
        if not (model / part).is_dir():
            raise PatchDMError(f"{model / part}: not found, expected a part that {INDEX} names")
    try:
        pipe = PatchDMPipeline.from_pretrained(model, local_files_only=True)
    except (OSError, ValueError, TypeError, AttributeError, ImportError) as error:
        raise PatchDMError(f"{model}: no readable model: {one_line(error)}") from None
    pipe.unet.to(memory_format=torch.channels_last)  # the faster layout
    return pipe
