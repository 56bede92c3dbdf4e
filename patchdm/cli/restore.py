"""`patchdm inpaint` and `outpaint`: a given image, partly regenerated."""

from __future__ import annotations

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

from patchdm.cli.codes import code_fit
from patchdm.cli.defaults import Settings, settings
from patchdm.cli.models import load_pipeline
from patchdm.devices import cast
from patchdm.errors import PatchDMError, one_line
from patchdm.formats.images import Pixels, read_image, save_png
from patchdm.formats.large import check_in_memory
from patchdm.formats.tensors import to_tensor, to_uint8
from patchdm.pipeline import PatchDMPipeline
from patchdm.sampling.solve import generators

WHITE = 127.5
"""Levels above are white in a mask."""
LARGER = 2
"""Times the pixels of a training image, from which on a photograph is worked on at that size."""


@dataclass(frozen=True)
class Task:
    """An image, and where pixels are to be made.

    Attributes:
        canvas: the image and its surroundings, (H, W, 3) uint8 in sRGB.
        hole: (H, W), True where pixels are made.
        photograph: (height, width) of the image alone.
        make: pipeline, options of its `inpaint` -> the canvas (1, 3, H, W) at its own size.
    """

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

    return Task(pixels, hole, (height, width), make)


def beyond(image: Path, margins: Mapping[str, Any]) -> Task:
    """Return the task to make pixels at "left", "top", "right" and "bottom" of an image.

    Raises:
        PatchDMError: the file is no image, or the canvas has too many pixels.
    """
    pixels = read_image(image)
    height, width, _ = pixels.shape
    around = [(margins["top"], margins["bottom"]), (margins["left"], margins["right"])]
    whole = [side + sum(margin) for side, margin in zip((height, width), around, strict=True)]
    check_in_memory("--left, --top, --right, --bottom", *reversed(whole))
    hole = np.pad(np.zeros((height, width), bool), around, constant_values=True)

    def make(pipe: PatchDMPipeline, options: dict[str, Any]) -> Tensor:
        return pipe.outpaint(_tensor(pixels), **margins, **options)[0]

    return Task(np.pad(pixels, [*around, (0, 0)]), hole, (height, width), make)


@dataclass(frozen=True)
class Restorer:
    """A pipeline, and the options of its `inpaint` that its run or folder says."""

    pipe: PatchDMPipeline
    found: Settings

    def restored(self, task: Task, seed: int, *, native: bool = False, **options: Any) -> Pixels:
        """Return the version of a seed, (H, W, 3) uint8.

        Args:
            task, seed: what to make.
            native: work on the pixels as they are, however much larger than the training's an image
                is; what is further away from the hole than a training image is large is left out.
            options: of the pipeline's `inpaint`; what is left out is as the model says.

        Raises:
            PatchDMError: an option does not fit.
        """
        chosen: dict[str, Any] = self.found.inpaint | {"output_type": "latent"} | options
        if chosen["code"] != "latent" and self.pipe.encoder is None and self.pipe.code_table:
            chosen["fit"] = code_fit(self.found, self.pipe)
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
    native: bool = False,
    device: str | None = None,
    mixed_precision: str | None = None,
    **options: Any,
) -> Iterator[Path]:
    """Write one version per seed as a PNG file; yield its path.

    `tell` is called with a line where an image is worked on at another size. Sampled pixels are
    sRGB: known ones are converted to it, and the PNG needs no profile.

    Raises:
        PatchDMError: something does not fit.
    """
    loaded = restorer(model, device, mixed_precision)
    loaded.pipe.set_progress_bar_config(disable=None)  # but in a terminal
    if not native and (size := loaded.smaller(task)):
        trained, (height, width) = loaded.pipe.unet.config.sample_size, task.hole.shape
        tell(
            f"model: makes images of {trained[1]}x{trained[0]}, so {width}x{height} pixels are "
            f"worked on as {size[1]}x{size[0]}; --native: as they are"
        )
    for seed, path in paths.items():
        save_png(path, loaded.restored(task, seed, native=native, **options))
        yield path


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
