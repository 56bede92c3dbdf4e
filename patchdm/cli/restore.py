"""`patchdm inpaint` and `outpaint`: a given image, partly regenerated."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from patchdm.cli.codes import Show, code_fit
from patchdm.cli.defaults import Settings, settings
from patchdm.cli.models import load_pipeline
from patchdm.cli.sizes import is_far, memory_of
from patchdm.devices import cast
from patchdm.errors import PatchDMError, one_line
from patchdm.files import in_gb
from patchdm.formats.images import Pixels, read_image, save_png
from patchdm.formats.large import check_in_memory
from patchdm.formats.tensors import to_tensor, to_uint8
from patchdm.peaks import USABLE, predicting
from patchdm.pipeline import PatchDMPipeline
from patchdm.sampling.solve import generators

WHITE = 127.5
"""Levels above are white in a mask."""
LARGER = 2
"""Times the pixels of a training image, from which on a photograph is worked on at that size."""

MARGINS = "--left, --top, --right, --bottom"
CANVAS_BYTES, IMAGE_BYTES = 160, 40
"""For a pixel of the canvas that is worked on: some ten tensors of three float32, and what finds
the nearest known pixels. For one of the whole image: its bytes, its mask, three such tensors."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """An image, and where pixels are to be made.

    Attributes:
        asked: what names its size in errors.
        canvas: the image and its surroundings, (H, W, 3) uint8 in sRGB.
        hole: (H, W), True where pixels are made.
        photograph: (height, width) of the image alone.
        make: pipeline, options of its `inpaint` -> the canvas (1, 3, H, W) at its own size.
    """

    asked: str
    canvas: Pixels
    hole: NDArray[np.bool_]
    photograph: tuple[int, int]
    make: Callable[[PatchDMPipeline, dict[str, Any]], Tensor]


def masked(image: Path, mask: Path) -> Task:
    """Return the task to make what is white in a mask of the image's size.

    Raises:
        PatchDMError: a file is no image, the sizes differ, or nothing or all is white.
    """
    pixels = read_image(image)
    height, width, _ = pixels.shape
    hole = read_image(mask).mean(axis=2) > WHITE
    if hole.shape != (height, width):
        raise PatchDMError(
            f"{mask}: found {hole.shape[1]} x {hole.shape[0]} pixels, expected {width} x "
            f"{height} as of {image}"
        )
    if hole.all() or not hole.any():
        found = "nothing but" if hole.all() else "nothing"
        raise PatchDMError(f"{mask}: found {found} white, which is where pixels are regenerated")

    def make(pipe: PatchDMPipeline, options: dict[str, Any]) -> Tensor:
        return _made(pipe, _tensor(pixels), torch.from_numpy(hole), options)

    return Task(str(image), pixels, hole, (height, width), make)


def beyond(image: Path, margins: Mapping[str, Any]) -> Task:
    """Return the task to make pixels at "left", "top", "right" and "bottom" of an image.

    Raises:
        PatchDMError: the file is no image, or the canvas has too many pixels.
    """
    pixels = read_image(image)
    height, width, _ = pixels.shape
    around = [(margins["top"], margins["bottom"]), (margins["left"], margins["right"])]
    whole = [side + sum(margin) for side, margin in zip((height, width), around, strict=True)]
    check_in_memory(MARGINS, *reversed(whole))
    hole = np.pad(np.zeros((height, width), bool), around, constant_values=True)

    def make(pipe: PatchDMPipeline, options: dict[str, Any]) -> Tensor:
        return pipe.outpaint(_tensor(pixels), **margins, **options)[0]

    return Task(MARGINS, np.pad(pixels, [*around, (0, 0)]), hole, (height, width), make)


@dataclass(frozen=True)
class Restorer:
    """A pipeline, and the options of its `inpaint` that its run or folder says."""

    pipe: PatchDMPipeline
    found: Settings

    def restored(
        self,
        task: Task,
        seed: int,
        *,
        native: bool = False,
        show_fit: Show = iter,
        **options: Any,
    ) -> Pixels:
        """Return the version of a seed, (H, W, 3) uint8.

        Args:
            task, seed: what to make.
            native: work on the pixels as they are, however much larger than the training's an image
                is; what is further away from the hole than a training image is large is left out.
            show_fit: wraps the steps of the fit of a code.
            options: of the pipeline's `inpaint`; what is left out is as the model says.

        Raises:
            PatchDMError: an option does not fit.
        """
        chosen: dict[str, Any] = self.found.inpaint | {"output_type": "latent"} | options
        if chosen["code"] != "latent" and self.pipe.encoder is None and self.pipe.code_table:
            chosen["fit"] = code_fit(self.found, self.pipe, show_fit)
        chosen["generator"] = generators([seed])
        size = None if native else self.smaller(task)
        try:
            if size is not None:
                made = _made_smaller(self.pipe, task, size, chosen)
            elif native and (part := self.near(task)):
                made = _made_near(self.pipe, task, part, chosen)
            else:
                made = task.make(self.pipe, chosen)
        except ValueError as error:
            raise PatchDMError(one_line(error)) from None
        return to_uint8(made)[0]

    @property
    def drifts(self) -> bool:
        """Whether the model knows the code of an image, and others to drift to."""
        pipe = self.pipe
        fitted = pipe.code_table is not None and self.found.fit is not None
        known = pipe.encoder is not None or fitted
        return bool(pipe.latent is not None and known and pipe.unet.config.sample_size)

    def smaller(self, task: Task) -> tuple[int, int] | None:
        """Return the size (height, width) at which a larger image is worked on; None: its own."""
        trained, pixels = self.pipe.unet.config.sample_size, math.prod(task.photograph)
        if not trained or pixels < LARGER * math.prod(trained):
            return None
        p, shrink = self.pipe.unet.config.patch_size, math.sqrt(math.prod(trained) / pixels)
        height, width = (max(1, round(side * shrink / p)) * p for side in task.hole.shape)
        return height, width

    def canvas(self, task: Task, *, native: bool) -> tuple[int, int]:
        """Return the size (height, width) that a task is worked on at, of whole patches."""
        if not native and (size := self.smaller(task)):
            return size
        part = self.near(task) if native else None
        height, width = (task.hole if part is None else task.hole[part]).shape
        p = self.pipe.unet.config.patch_size
        return -(-height // p) * p, -(-width // p) * p

    def needed(self, task: Task, *, native: bool = False, **options: Any) -> float:
        """Return the bytes of memory that a task takes, about; arguments as of `restored`.

        Raises:
            PatchDMError: they are more than the device has.
        """
        chosen = self.found.inpaint | options
        names = "rows_per_chunk", "tiling", "guidance_scale"
        height, width = self.canvas(task, native=native)
        network = predicting(
            self.pipe.unet,
            height,
            width,
            **{name: chosen[name] for name in names if name in chosen},
        )
        needed = network + CANVAS_BYTES * height * width + IMAGE_BYTES * task.hole.size
        memory = memory_of(self.pipe.device)
        if memory is not None and needed > USABLE * memory:
            rows, cols = task.hole.shape
            raise PatchDMError(
                f"{task.asked}: found an image of {cols}x{rows} pixels, worked on as "
                f"{width}x{height}, which takes {in_gb(needed)} of memory, expected at most "
                f"{in_gb(USABLE * memory)}, {USABLE:.0%} of the device's: make fewer pixels"
            )
        return needed

    def near(self, task: Task) -> tuple[slice, slice] | None:
        """Return the rows and columns that matter to a hole; None: all do."""
        if (trained := self.pipe.unet.config.sample_size) is None:
            return None
        parts = [
            slice(max(0, at.min() - reach), min(side, at.max() + 1 + reach))
            for at, side, reach in zip(task.hole.nonzero(), task.hole.shape, trained, strict=True)
        ]
        whole = [slice(0, side) for side in task.hole.shape]
        return None if parts == whole else (parts[0], parts[1])


def restorer(model: Path, device: str | None, mixed_precision: str | None) -> Restorer:
    """Load a model, see `patchdm.cli.sample.sample`."""
    pipe = load_pipeline(model, device)
    found = settings(model, pipe)
    if name := mixed_precision or found.mixed_precision:
        cast(pipe.unet, name)
    return Restorer(pipe, found)


def restore(
    model: Path,
    task: Task,
    paths: Mapping[int, Path],
    *,
    tell: Callable[[str], None],
    show_fit: Show = iter,
    native: bool = False,
    device: str | None = None,
    mixed_precision: str | None = None,
    **options: Any,
) -> Iterator[Path]:
    """Write one version per seed as a PNG file; yield its path.

    `tell` is called with a line of the canvas that is worked on, and one before it where that is of
    another size than the image. `show_fit` is as in `Restorer.restored`. Sampled pixels are sRGB:
    known ones are converted to it, and the PNG needs no profile.

    Raises:
        PatchDMError: something does not fit.
    """
    loaded = restorer(model, device, mixed_precision)
    loaded.pipe.set_progress_bar_config(disable=None)  # but in a terminal
    _tell_of_size(loaded, task, tell, native=native, **options)
    for seed, path in paths.items():
        save_png(path, loaded.restored(task, seed, native=native, show_fit=show_fit, **options))
        yield path


def _tell_of_size(
    loaded: Restorer, task: Task, tell: Callable[[str], None], *, native: bool, **options: Any
) -> None:
    """Say how large what is worked on is; refuse what memory does not hold, warn of what is far."""
    config = loaded.pipe.unet.config
    trained, p = config.sample_size, config.patch_size
    (height, width), needed = (
        loaded.canvas(task, native=native),
        loaded.needed(task, native=native, **options),
    )
    if not native and loaded.smaller(task):
        rows, cols = task.hole.shape
        tell(
            f"model: makes images of {trained[1]}x{trained[0]}, so {cols}x{rows} pixels are "
            f"worked on as {width}x{height}; --native: as they are"
        )
    tell(
        f"canvas: {width}x{height} pixels, {width * height // p**2:,} patches of {p}, "
        f"{in_gb(needed)} of memory"
    )
    code = (loaded.found.inpaint | options)["code"]
    if code != "field" and is_far(height, width, trained):
        log.warning(
            "warning: %s: a canvas of %dx%d is far beyond the training size, %dx%d: one code for "
            "all of it repeats itself; --code field drifts to others",
            task.asked, width, height, *reversed(trained),
        )  # fmt: skip


def _made(pipe: PatchDMPipeline, canvas: Tensor, hole: Tensor, options: dict[str, Any]) -> Tensor:
    """Make the hole of a canvas, filled up to whole patches, which are made and cut off."""
    (height, width), p = hole.shape, pipe.unet.config.patch_size
    around = (0, -width % p, 0, -height % p)
    made = pipe.inpaint(F.pad(canvas, around), F.pad(hole, around, value=True), **options)[0]
    return made[..., :height, :width].cpu()


def _made_near(
    pipe: PatchDMPipeline, task: Task, part: tuple[slice, slice], options: dict[str, Any]
) -> Tensor:
    """Make the hole of a canvas by what is around it; the rest stays."""
    canvas = _tensor(task.canvas)
    hole = torch.from_numpy(task.hole[part])
    canvas[(..., *part)] = _made(pipe, canvas[(..., *part)], hole, options)
    return canvas


def _made_smaller(
    pipe: PatchDMPipeline, task: Task, size: tuple[int, int], options: dict[str, Any]
) -> Tensor:
    """Make the hole of a canvas at another size; what is known stays."""
    canvas, hole = _tensor(task.canvas), torch.from_numpy(task.hole)
    unknown = F.interpolate(hole[None, None].float(), size, mode="area") > 0
    made = pipe.inpaint(F.interpolate(canvas, size, mode="area"), unknown, **options)[0].cpu()
    return F.interpolate(made, hole.shape, mode="bicubic").where(hole, canvas)


def _tensor(pixels: Pixels) -> Tensor:
    return to_tensor(np.stack([pixels]))  # a copy: torch wants arrays it may write to
