"""Sections data and features: the photographs, and what a frozen backbone sees in them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from patchdm.config.section import Positive, Section


class Data(Section):
    """Where the photographs come from and how they become training images."""

    source: Literal["bundled", "folder"]
    """bundled: the archive in `location` with its CSV of hashes; folder: any images below it."""
    location: str
    """Path of the archive or folder, relative to the repository."""
    width: Positive
    """Width of a training image in pixels, a multiple of model.patch_size."""
    height: Positive
    """Height of a training image in pixels, a multiple of model.patch_size."""
    flips: bool
    """Add the mirror image of every training photograph as an image with its own code."""
    test_fraction: Annotated[float, Field(gt=0, lt=1)]
    """At least this share of the source photographs is held out of training."""


class Features(Section):
    """The frozen backbone whose features start the code table."""

    backbone: str
    """`efficientnet-lite0` or `open_clip:MODEL/PRETRAINED`, e.g. `open_clip:ViT-B-16/openai`."""
    weights: str | None
    """A local weights file for the backbone; null: the weights its package carries or loads."""
    batch_size: Positive
    """Images per forward pass; does not change the features."""
