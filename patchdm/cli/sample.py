"""`patchdm sample`: one image per seed."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from patchdm.cli.defaults import settings
from patchdm.cli.models import load_pipeline
from patchdm.cli.sizes import check_patch, is_far
from patchdm.devices import cast
from patchdm.errors import PatchDMError
from patchdm.formats.images import contact_sheet, save_png
from patchdm.formats.large import check_in_memory
from patchdm.formats.shards import read_images, read_manifest
from patchdm.sampling.generate import generate
from patchdm.sampling.solvers import solver

GRID_IMAGES = 64
"""Most images of a contact sheet."""
GRID_SIDE = 512
"""Longest side of an image there, in pixels."""
log = logging.getLogger(__name__)


def sample(
    model: Path,
    seeds: range,
    out: Path,
    on_start: Callable[[int], Callable[[int], None]],
    size: dict[str, int] | None,
    solver_name: str | None,
    *,
    device: str | None = None,
    mixed_precision: str | None = None,
    compiled: bool = False,
    **options: Any,
) -> bool:
    """Sample one image per seed into shards; return False if other processes hold some of them.

    Args:
        model, device: as in `load_pipeline`.
        seeds, out, options: of `generate`; what is left out is as in the model's run or folder.
        on_start: called with the number of images; returns what to call with how many are done.
        size: "height" and "width" in pixels; None: those of the training images.
        solver_name, mixed_precision: as in params.yaml; None: that of the model's run or folder, or
            as it was saved.
        compiled: pass the network through torch.compile.

    Raises:
        PatchDMError: something does not fit.
    """
    pipe = load_pipeline(model, device)
    pipe.set_progress_bar_config(disable=True)
    trained = pipe.unet.config.sample_size
    if size is None and trained is None:
        raise PatchDMError(f"--size: missing, {model} does not say how large its images are")
    sides = size or dict(zip(("height", "width"), trained, strict=True))
    check_patch("--size", sides["width"], sides["height"], pipe.unet.config.patch_size)
    check_in_memory("--size", sides["width"], sides["height"])
    if is_far(sides["height"], sides["width"], trained):
        log.warning(
            "warning: --size %dx%d is far beyond the training size, %dx%d: one code for all of it "
            "repeats itself; `patchdm panorama` has many, or begins with an --image",
            sides["width"], sides["height"], *reversed(trained),
        )  # fmt: skip
    found = settings(model, pipe)
    if name := solver_name or found.solver:
        pipe.scheduler = solver(pipe.scheduler, name)
    if name := mixed_precision or found.mixed_precision:
        cast(pipe.unet, name)
    if compiled:
        pipe.unet.compile()
    gpus = 1 if device else torch.cuda.device_count()
    given = {"key": {}, "on_progress": on_start(len(seeds)), "gpus": gpus}
    chosen: dict[str, Any] = given | found.sample | sides | options
    return generate(pipe, seeds, out, **chosen)


def write_contact_sheet(folder: Path) -> Path:
    """Lay out the first samples of a folder in `grid.png`, made smaller where they are large."""
    seeds = read_manifest(folder)["seed"].tolist()[:GRID_IMAGES]
    small = []
    for _, pixels in read_images(folder, seeds):
        image = Image.fromarray(pixels)
        image.thumbnail((GRID_SIDE, GRID_SIDE))
        small.append(np.asarray(image))
    height, width, _ = small[0].shape
    columns = math.ceil(math.sqrt(len(small) * height / width))
    path = folder / "grid.png"
    save_png(path, contact_sheet(np.stack(small), min(columns, len(small))))
    return path
