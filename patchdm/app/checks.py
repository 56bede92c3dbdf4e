"""What is refused before it waits in the queue."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

from fastapi import HTTPException

from patchdm.app.requests import MOST_PIXELS, Inpaint, Outpaint, Panorama, Sample, Solving
from patchdm.app.work import Studio
from patchdm.cli.sizes import check_patch
from patchdm.errors import PatchDMError, one_line
from patchdm.sampling.blocks import CANVASES
from patchdm.sampling.seeds import check_sampling

NAME = re.compile(r"[\w-]{16,64}")
"""Of what was given out: nothing else comes near a path."""


def check(studio: Studio, asked: Any) -> None:
    """Refuse a job before it waits.

    Raises:
        HTTPException: a value does not fit.
    """
    if isinstance(asked, Solving):
        _check_sampling(studio, asked)
        return
    if isinstance(asked, Outpaint) and not any((asked.left, asked.top, asked.right, asked.bottom)):
        raise HTTPException(422, "left, top, right, bottom: found 0, expected one above 0")
    names = [asked.image, *([asked.mask] if isinstance(asked, Inpaint) else [])]
    for name in names:
        if not studio.upload(checked_name(name)).is_file():
            raise HTTPException(404, f"image {name!r}: not found")


def checked_name(name: str) -> str:
    """Return the id of an upload.

    Raises:
        HTTPException: it is none.
    """
    if not NAME.fullmatch(name):
        raise HTTPException(404, f"image {name[:64]!r}: not found")
    return name


def _check_sampling(studio: Studio, asked: Any) -> None:
    """Refuse what the pipeline would refuse."""
    unet, scheduler = studio.pipe.unet, studio.scheduler(asked)
    options = studio.sampling(asked)
    height, width = studio.size
    if isinstance(asked, Sample | Panorama):
        height, width = asked.height, asked.width
    elif studio.pipe.latent is None:
        raise HTTPException(422, f"{asked.kind}: found a model without codes")
    if width * height > MOST_PIXELS:
        raise HTTPException(422, f"size: found {width}x{height}, expected {MOST_PIXELS} pixels")
    p = unet.config.patch_size
    try:
        check_patch("size", width, height, p)
    except PatchDMError as error:
        raise HTTPException(422, one_line(error)) from None
    if isinstance(asked, Panorama):  # what is beyond the size is cut off
        height, width, options["wrap"] = -(-height // p) * p, -(-width // p) * p, asked.wrap
        if type(scheduler) not in CANVASES:
            raise HTTPException(422, f"solver: found {asked.solver}, expected ddim or dpm-solver++")
    parts = SimpleNamespace(unet=unet, latent=studio.pipe.latent, scheduler=scheduler)
    try:
        check_sampling(parts, height=height, width=width, **options)
    except ValueError as error:
        raise HTTPException(422, one_line(error)) from None
