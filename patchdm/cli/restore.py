"""`patchdm inpaint` and `outpaint`: a given image, partly regenerated."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from patchdm.cli.codes import code_fit
from patchdm.cli.defaults import settings
from patchdm.cli.models import load_pipeline
from patchdm.console import say
from patchdm.devices import cast
from patchdm.errors import PatchDMError, one_line
from patchdm.formats.images import Pixels, read_image, save_png
from patchdm.formats.tensors import to_tensor, to_uint8
from patchdm.pipeline import PatchDMPipeline
from patchdm.sampling.solve import generators

WHITE = 127.5
"""Levels above are white in a mask."""
LARGER = 2
"""Times the pixels of a training image, from which on a photograph is worked on at that size."""


def inpaint(
    model: Path, image: Path, mask: Path, paths: Mapping[int, Path], **options: Any
) -> Iterator[Path]:
    """Regenerate the white part of a mask of the image's size; yield the files written.

    Model, paths and options are as in `_restore`.

    Raises:
        PatchDMError: something does not fit.
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

    def make(pipe: PatchDMPipeline, x0: Tensor, options: dict[str, Any]) -> Tensor:
        p = pipe.unet.config.patch_size
        around = (0, -width % p, 0, -height % p)  # to whole patches, which are made and cut off
        unknown = F.pad(torch.from_numpy(hole), around, value=True)
        made = pipe.inpaint(F.pad(x0, around), unknown, **options)[0]
        return made[..., :height, :width]

    return _restore(make, pixels, pixels, hole, model, paths, **options)


def outpaint(
    model: Path, image: Path, margins: Mapping[str, Any], paths: Mapping[int, Path], **options: Any
) -> Iterator[Path]:
    """Generate what lies beyond the borders of an image; yield the files written.

    Margins are pixels at "left", "top", "right", "bottom", all else as in `_restore`.

    Raises:
        PatchDMError: something does not fit.
    """

    def make(pipe: PatchDMPipeline, x0: Tensor, options: dict[str, Any]) -> Tensor:
        return pipe.outpaint(x0, **margins, **options)[0]

    pixels = read_image(image)
    around = [(margins["top"], margins["bottom"]), (margins["left"], margins["right"])]
    hole = np.pad(np.zeros(pixels.shape[:2], bool), around, constant_values=True)
    canvas = np.pad(pixels, [*around, (0, 0)])
    return _restore(make, pixels, canvas, hole, model, paths, **options)


def _made_smaller(
    hole: Tensor,
    size: tuple[int, int],
    pipe: PatchDMPipeline,
    canvas: Tensor,
    options: dict[str, Any],
) -> Tensor:
    """Make the hole (H, W) of a canvas (1, 3, H, W) at another size; what is known stays."""
    unknown = F.interpolate(hole[None, None].float(), size, mode="area") > 0
    made = pipe.inpaint(F.interpolate(canvas, size, mode="area"), unknown, **options)[0]
    enlarged = F.interpolate(made, hole.shape, mode="bicubic")
    return enlarged.where(hole.to(made.device), canvas.to(made.device))


def _restore(
    make: Callable[[PatchDMPipeline, Tensor, dict[str, Any]], Tensor],
    pixels: Pixels,
    canvas: Pixels,
    hole: NDArray[np.bool_],
    model: Path,
    paths: Mapping[int, Path],
    *,
    native: bool = False,
    device: str | None = None,
    mixed_precision: str | None = None,
    **options: Any,
) -> Iterator[Path]:
    """Write one version of an image per seed; yield its path.

    Args:
        make: pipeline, image (1, 3, H, W) in [-1, 1], options -> its version, likewise.
        pixels, paths: the image (h, w, 3); seed -> PNG file.
        canvas, hole: it and its surroundings (H, W, 3); True (H, W) where pixels are made.
        native: work on all pixels of an image, however much larger than the training's it is.
        model, device: as in `load_pipeline`.
        mixed_precision: as in params.yaml; None: that of the model's run or folder, or as it was
            saved.
        options: of the pipeline's `inpaint`, as in `sample`.
    """
    pipe = load_pipeline(model, device)
    pipe.set_progress_bar_config(disable=None)  # but in a terminal
    found = settings(model, pipe)
    if name := mixed_precision or found.mixed_precision:
        cast(pipe.unet, name)
    chosen: dict[str, Any] = found.inpaint | {"output_type": "latent"} | options
    if chosen["code"] == "image" and pipe.encoder is None and pipe.code_table is not None:
        chosen["fit"] = code_fit(found, pipe)
    # Sampled pixels are sRGB: known ones are converted to it, and the PNG needs no profile.
    x0 = to_tensor(np.stack([pixels]))  # a copy: torch wants arrays it may write to
    height, width, _ = pixels.shape
    trained = pipe.unet.config.sample_size
    if trained and not native and height * width >= LARGER * math.prod(trained):
        shrink = math.sqrt(math.prod(trained) / (height * width))
        p = pipe.unet.config.patch_size
        size = tuple(max(1, round(side * shrink / p)) * p for side in hole.shape)
        say(
            f"model: makes images of {trained[1]}x{trained[0]}, so {hole.shape[1]}x{hole.shape[0]} "
            f"pixels are worked on as {size[1]}x{size[0]}; --native: as they are"
        )
        x0, unknown = to_tensor(np.stack([canvas])), torch.from_numpy(hole)
        make = functools.partial(_made_smaller, unknown, size)
    for seed, path in paths.items():
        try:
            made = make(pipe, x0, {**chosen, "generator": generators([seed])})
        except ValueError as error:
            raise PatchDMError(one_line(error)) from None
        save_png(path, to_uint8(made)[0])
        yield path
