"""The codes that commands make canvases of: those of seeds, of a photograph, of its regions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from patchdm.backbones.load import load_backbone
from patchdm.cli.defaults import Settings
from patchdm.errors import PatchDMError
from patchdm.pipeline import PatchDMPipeline
from patchdm.sampling.encode import CodeFit, code_of_image
from patchdm.sampling.solve import generators
from patchdm.sampling.solvers import solver

Show = Callable[[Sequence[int]], Iterable[int]]
"""Wraps the steps of a fit, as a progress bar does."""


def codes_of_regions(
    pipe: PatchDMPipeline,
    found: Settings,
    image: Tensor,
    rows: int,
    columns: int,
    seed: int,
    *,
    show: Show = iter,
) -> Tensor | None:
    """Return the codes of the regions of an image (1, 3, h, w), (1, rows, columns, code_dim).

    A region is a row-th of the height and a column-th of the width, around its place on the
    lattice and within the image, at the size of the training images. None: the model has none.
    `show` wraps the steps of the fit.

    Raises:
        PatchDMError: the model does not say how large its images are, or how codes are fitted.
    """
    coder = pipe.code_table if pipe.encoder is None else pipe.encoder
    if coder is None:
        return None
    size = pipe.unet.config.sample_size
    if size is None:
        raise PatchDMError("--image: found a model that does not say how large its images are")
    height, width = image.shape[-2:]
    down, right = -(-height // rows), -(-width // columns)
    corners = [(top, left) for top in _starts(height, rows) for left in _starts(width, columns)]
    regions = torch.cat(
        [
            F.interpolate(image[..., top : top + down, left : left + right], size, mode="area")
            for top, left in corners
        ]
    ).to(pipe.device)
    codes = code_of_image(
        coder,
        pipe.unet,
        solver(pipe.scheduler, "ddim"),
        regions,
        mask=torch.zeros(len(regions), 1, *size, dtype=torch.bool, device=pipe.device),
        fit=None if pipe.encoder else code_fit(found, pipe, show),
        generators=generators(range(seed, seed + len(regions))),
    )
    return codes.reshape(1, rows, columns, -1)


def _starts(length: int, count: int) -> list[int]:
    """Return where windows of a count-th of a length begin, the first and the last at its ends."""
    spare = length - -(-length // count)
    return [round(spare * index / max(count - 1, 1)) for index in range(count)]


def code_fit(found: Settings, pipe: PatchDMPipeline, show: Show = iter) -> CodeFit:
    """Return how a code is fitted to an image, its steps wrapped by `show`.

    Raises:
        PatchDMError: the model does not say.
    """
    if found.fit is None:
        raise PatchDMError("--code: found image, expected latent without a run's params.yaml")
    backbone = load_backbone(pipe.code_table.config.backbone, found.weights, "cpu")
    return CodeFit(backbone.features, **found.fit, show=show)
