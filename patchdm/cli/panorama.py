"""`patchdm panorama`: one image of any size, whose global code changes from place to place."""

from __future__ import annotations

import contextlib
import logging
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from diffusers import SchedulerMixin
from torch import Tensor

from patchdm import viewer
from patchdm.cli.codes import Show, codes_of_regions
from patchdm.cli.defaults import Settings, settings
from patchdm.cli.models import load_pipeline
from patchdm.cli.request import work_of
from patchdm.cli.sizes import FAR, check_patch
from patchdm.devices import cast
from patchdm.errors import FULL, PatchDMError, one_line
from patchdm.files import in_gb, replacing, sha256
from patchdm.formats import large
from patchdm.formats.images import read_image
from patchdm.formats.tensors import to_tensor, to_uint8
from patchdm.grid import PatchGrid
from patchdm.memory import return_freed_memory
from patchdm.pipeline import PatchDMPipeline
from patchdm.sampling.blocks import block_count, bytes_needed, solve_by_blocks
from patchdm.sampling.checks import check_guidance
from patchdm.sampling.coarse import enlarged, first_step
from patchdm.sampling.seeds import codes_of_seeds, model_hash
from patchdm.sampling.solve import generators
from patchdm.sampling.solvers import solver

BLOCK_PIXELS = 1024
"""Side of a block on a CPU, about; a GPU takes twice as much."""
PIXELS_AT_ONCE = 2**19
"""That are rounded to bytes at once, or one row."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Panorama:
    """A canvas to be made in a folder, block by block; see `planned`.

    Attributes:
        width, height: of the image, which is cut out of the canvas.
        blocks: of all steps.
        numbers: of the canvas.
    """

    width: int
    height: int
    blocks: int
    numbers: int
    scheduler: SchedulerMixin
    options: Mapping[str, Any]

    @property
    def spare(self) -> int:
        """Bytes of its pixels, and at most as many in a file."""
        return 2 * 3 * self.width * self.height

    @property
    def needed(self) -> int:
        """Bytes on the disk, while it is made."""
        return bytes_needed(self.scheduler, self.numbers) + self.spare

    def made(self, work: Path, on_progress: Callable[[int], None]) -> Tensor:
        """Make it in a folder, or go on there; return x_0, (1, 3, H, W), mapped."""
        try:
            return solve_by_blocks(
                scheduler=self.scheduler,
                folder=work,
                spare=self.spare,
                on_progress=on_progress,
                **self.options,
            )
        except ValueError as error:
            raise PatchDMError(one_line(error)) from None


def panorama(
    model: Path,
    size: dict[str, int],
    seeds: Sequence[int],
    out: Path,
    on_start: Callable[[int], Callable[[int], None]],
    *,
    tell: Callable[[str], None],
    lattice: dict[str, int],
    viewed: bool,
    solver_name: str | None = None,
    image: Path | None = None,
    device: str | None = None,
    mixed_precision: str | None = None,
    **options: Any,
) -> list[Path]:
    """Make one image, or go on with it after a kill; return the files that were written.

    Args:
        model, device, mixed_precision, solver_name: as in `patchdm.cli.sample.sample`.
        out: a file, see `check_panorama`; beside it NAME.work while the image is made.
        on_start: called with the number of steps times blocks; returns what to call with how many
            are done.
        tell: called with a line about the work ahead.
        viewed: write NAME.html too, which shows NAME.dzi.
        size, seeds, lattice, image, show_fit, **options: of `planned`.

    Raises:
        PatchDMError: something does not fit.
    """
    width, height, work = size["width"], size["height"], work_of(out)
    pipe = load_pipeline(model, device)
    found = settings(model, pipe)
    if name := solver_name or found.solver:
        pipe.scheduler = solver(pipe.scheduler, name)
    if name := mixed_precision or found.mixed_precision:
        cast(pipe.unet, name)
    trained = pipe.unet.config.sample_size
    check_patch("--size", width, height, pipe.unet.config.patch_size)
    if image is None and trained and height >= FAR * trained[0]:
        log.warning(
            "warning: --size %dx%d is twice as high as the training images, %dx%d, or more: "
            "landscapes lie above each other; with --image there is one",
            width, height, *reversed(trained),
        )  # fmt: skip
    plan = planned(pipe, found, size, seeds, lattice, image=image, **options)
    tell(f"panorama: {plan.blocks} blocks of work, {in_gb(plan.needed)} in {work} meanwhile")
    with _room_in(work):
        write_pixels(plan.made(work, on_start(plan.blocks)), width, height, work / "pixels")
        return_freed_memory()  # of the network's steps, for what libvips takes
        large.write_large(work / "pixels", width, height, out)
    written = [out]
    if viewed:
        written.append(write_page(out, width, height, options.get("wrap", "none")))
    shutil.rmtree(work)
    return written


@contextlib.contextmanager
def _room_in(work: Path) -> Iterator[None]:
    """Name the folder where a disk is full, which the system does not for files that are mapped."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL or error.filename is not None:
            raise
        raise PatchDMError(
            f"{work}: no space left on the disk; the same command goes on when there is"
        ) from None


def planned(
    pipe: PatchDMPipeline,
    found: Settings,
    size: Mapping[str, int],
    seeds: Sequence[int],
    lattice: Mapping[str, int],
    *,
    image: Path | None = None,
    strength: float = 0.5,
    show_fit: Show = iter,
    **options: Any,
) -> Panorama:
    """Return an image that can be made.

    Args:
        pipe, found: the model, its solver set, and what its run or folder says.
        size: "width" and "height" in pixels, any.
        seeds: of the codes, which are those of `patchdm sample`; the first draws x_T too.
        lattice: "columns" and "rows" of the codes over the image, in reading order.
        image: what the canvas begins as, enlarged; its codes are those of the image's regions.
        strength: share of the steps that are then made, the last ones.
        show_fit: wraps the steps of the fit of those codes.
        **options: of the pipeline's call.

    Raises:
        PatchDMError: something does not fit.
    """
    pixels = None if image is None else to_tensor(np.stack([read_image(image)]))
    usual = {"guidance_scale": 0.0, "latent_num_inference_steps": 50}
    chosen: dict[str, Any] = usual | found.sample | options
    chosen.pop("code", None)  # they are the seeds'
    num_steps, latent_steps, w = (
        chosen.pop(key)
        for key in ("num_inference_steps", "latent_num_inference_steps", "guidance_scale")
    )
    pipe._guidance_scale = w  # noqa: SLF001 - as a call sets it
    p, width, height = pipe.unet.config.patch_size, size["width"], size["height"]
    grid = PatchGrid(-(-height // p), -(-width // p), p)
    shape = grid.rows * p, grid.cols * p
    side = max(1, BLOCK_PIXELS * (1 if pipe.device.type == "cpu" else 2) // p)
    about: dict[str, Any] = {"model": model_hash(pipe), "seeds": [*seeds]}
    about |= {
        "lattice": dict(lattice),
        "guidance_scale": w,
        "latent_num_inference_steps": latent_steps,
    }
    about |= {"image": sha256(image), "strength": strength} if image else {}
    about |= {key: value for key, value in chosen.items() if key != "rows_per_chunk"}  # memory
    try:
        check_guidance(pipe.unet, w)
        field, (rows, columns) = None, (lattice["rows"], lattice["columns"])  # without codes
        if pixels is not None:
            field = codes_of_regions(pipe, found, pixels, rows, columns, seeds[0], show=show_fit)
        elif pipe.latent is not None:
            field = codes_of_seeds(pipe, seeds, latent_steps).view(1, rows, columns, -1)
        denoiser = pipe.denoiser(shape, field, **chosen)
        steps = num_steps - (0 if pixels is None else first_step(strength, num_steps))
    except ValueError as error:
        raise PatchDMError(one_line(error)) from None
    return Panorama(
        width=width,
        height=height,
        blocks=block_count(grid.rows, grid.cols, side) * steps,
        numbers=3 * math.prod(shape),
        scheduler=pipe.scheduler,
        options={
            "denoiser": denoiser,
            "generator": generators(seeds[:1])[0],
            "num_steps": num_steps,
            "side": side,
            "settings": about,
            "image": None if pixels is None else enlarged(pixels, *shape),
            "strength": strength,
        },
    )


def write_page(out: Path, width: int, height: int, wrap: str) -> Path:
    """Write the page that shows a .dzi, beside it; return its path."""
    path = out.with_suffix(".html")
    with replacing(path) as fresh:
        fresh.write_text(viewer.page(out.stem, width, height, wrap), encoding="utf-8")
    return path


def write_pixels(x_0: Tensor, width: int, height: int, raw: Path) -> None:
    """Round a canvas (1, 3, H, W) to bytes, and write its first rows and columns to a raw file."""
    pixels = np.memmap(raw, np.uint8, "w+", shape=(height, width, 3))
    rows = max(1, PIXELS_AT_ONCE // width)
    for top in range(0, height, rows):
        end = min(top + rows, height)
        pixels[top:end] = to_uint8(x_0[:, :, top:end, :width])[0]
    pixels.flush()
