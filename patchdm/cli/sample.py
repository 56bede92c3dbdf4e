"""`patchdm sample`: one image a seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from patchdm.choices import Format
from patchdm.cli.words import (
    PAPER_STEPS,
    given,
    load_pipeline,
    parse_seeds,
    parse_size,
    run_of,
)
from patchdm.errors import PatchDMError, one_line
from patchdm.formats.images import contact_sheet, save_png
from patchdm.formats.shards import read_images, read_manifest
from patchdm.pipeline import PatchDMPipeline
from patchdm.sampling.generate import generate, sampling_options
from patchdm.sampling.solvers import solver

GRID_IMAGES = 64
"""Most images of a contact sheet."""
GRID_SIDE = 512
"""Longest side of an image there, in pixels."""


def sample(
    model: Path,
    out: Path,
    *,
    seeds: str,
    size: str | None,
    solver_name: str | None,
    device: str | None,
    on_start: Callable[[int], Callable[[int], None]],
    shard_size: int,
    batch_size: int,
    format: Format,  # noqa: A002 - the word of params.yaml
    **options: Any,
) -> bool:
    """Sample one image a seed into shards.

    Args:
        model: as in `load_pipeline`.
        out, shard_size, batch_size, format: as in `generate`.
        seeds: FIRST:END.
        size: WIDTHxHEIGHT; None: that of the training images.
        solver_name: as in params.yaml; None: that of the model's run, or as it was saved.
        device: as in `load_pipeline`.
        on_start: called with the number of images; returns what to call with how many are done.
        **options: arguments of the pipeline's call; None: as the params.yaml of the model's run
            has it, or the pipeline.

    Returns:
        Whether all is finished; if not, other processes hold the rest.

    Raises:
        PatchDMError: something does not fit.
    """
    numbers = parse_seeds(seeds)
    height_width = parse_size(size) if size else None
    pipe = load_pipeline(model, device)
    pipe.set_progress_bar_config(disable=True)
    height, width = height_width or _trained_size(pipe, model)
    run = run_of(model, pipe)
    name = solver_name or (run.sample.solver if run else None)
    if name:
        _use_solver(pipe, name)
    defaults = sampling_options(run) if run else PAPER_STEPS
    return generate(
        pipe,
        numbers,
        out,
        height=height,
        width=width,
        key={},
        on_progress=on_start(len(numbers)),
        shard_size=shard_size,
        batch_size=batch_size,
        format=format,
        **defaults | given(options),
    )


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


def _trained_size(pipe: PatchDMPipeline, model: Path) -> tuple[int, int]:
    if pipe.unet.config.sample_size is None:
        raise PatchDMError(f"--size: missing, {model} does not say how large its images are")
    height, width = pipe.unet.config.sample_size
    return height, width


def _use_solver(pipe: PatchDMPipeline, name: str) -> None:
    try:
        pipe.scheduler = solver(pipe.scheduler, name)
    except ValueError as error:
        raise PatchDMError(one_line(error)) from None
