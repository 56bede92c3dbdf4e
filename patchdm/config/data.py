"""Sections data and features: the photographs, and the frozen backbone of their features."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from patchdm.config.section import Positive, Section, Text

OUTPUTS = (
    "data/source.json", "data/raw", "data/patches", "data/features.parquet", "data/models",
    "data/codes.parquet", "data/reference", "data/samples", "data/applications", "data/ablations",
    "reports", ".state",
)  # fmt: skip
"""Where stages write, relative to the repository: photographs there would be replaced."""

_PINS = {"archive": 64, "lsun": 64, "hub": 40}
"""Source -> hex digits of its pin: a SHA-256 or a commit."""


class Data(Section):
    """Source of the photographs, and how they become training images."""

    source: Literal["bundled", "folder", "archive", "lsun", "hub", "table", "s3"]
    """Kind of source; each is a module of patchdm/fetch/sources, docs/data.md has examples.

    bundled: a zip archive with its CSV of hashes next to it; folder: the images below it; archive:
    the images in a zip, tar, tar.gz, tar.bz2, tar.xz or tar.zst; lsun: an LMDB as LSUN publishes
    it, or its zip; hub: a data set of the Hugging Face hub; table: a CSV or parquet of URLs; s3:
    the objects under a prefix.
    """
    location: Text
    """A path relative to the repository (all but hub and s3), an http(s) URL (archive, lsun),
    `owner/name` (hub), or `s3://bucket/prefix` (s3)."""
    pin: Annotated[str, StringConstraints(to_lower=True)] | None
    """Expected SHA-256 of an archive or LSUN's zip, or commit of a hub repository; null: any."""
    endpoint: str | None
    """URL of the S3 server or hub; null: Amazon's or Hugging Face's."""
    credentials: Text
    """Credentials for an S3 server or the hub: `default` (as AWS and Hugging Face tools find them),
    `anonymous`, or for S3 the name of a profile."""
    damaged_fraction: Annotated[float, Field(ge=0, lt=1)]
    """Largest share of the photographs that may be missing or unreadable and are then left out: by
    `download` (outcomes.parquet says why) of those that the source lists, by `extract_patches`
    (quarantine.csv) of those in data/raw. 0: the first one is an error."""
    width: Positive
    """Width of a training image in pixels, a multiple of model.patch_size."""
    height: Positive
    """Height of a training image in pixels, a multiple of model.patch_size."""
    views: Positive
    """Images of a photograph: the whole, and parts of random place and size, mirrored by chance;
    each with its own code."""
    view_scale: Annotated[
        list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=2, max_length=2)
    ]
    """Smallest and largest size of the parts, in the sides of the whole."""
    flips: bool
    """Add the mirror image of every whole training photograph, as an image with its own code."""
    test_fraction: Annotated[float, Field(gt=0, lt=1)]
    """Share of the photographs that is held out of training, rounded up; as near as groups of
    photographs that look alike permit."""

    @property
    def is_local(self) -> bool:
        """Whether the location is a path on this machine."""
        return self.source not in ("hub", "s3") and not is_url(self.location)

    @model_validator(mode="after")
    def _views_are_of_ascending_scales(self) -> Self:
        least, most = self.view_scale
        if least > most:
            raise ValueError(f"view_scale is [{least}, {most}], expected the smaller one first")
        return self

    @model_validator(mode="after")
    def _keys_fit_the_source(self) -> Self:
        digits = _PINS.get(self.source, 0)
        pins = rf"[0-9a-f]{{{digits}}}" if digits else "(?!)"
        urls = r"https?://\S+" if self.source in ("hub", "s3") else "(?!)"
        names = "default|anonymous" if self.source == "hub" else "(?s:.*)"
        for key, pattern, expected in (
            ("pin", pins, f"null or {digits} hex digits" if digits else "null"),
            ("endpoint", urls, "null" if urls == "(?!)" else "null or http(s)://..."),
            ("credentials", names, "default, anonymous"),
        ):
            value = getattr(self, key)
            if value is not None and not re.fullmatch(pattern, value):
                raise ValueError(
                    f"{key}: found {value!r}, expected with source {self.source}: {expected}"
                )
        return self


def is_url(location: str) -> bool:
    """Return whether a location is a URL and no path."""
    return re.match(r"https?://", location, re.IGNORECASE) is not None


def check_location(data: Data, root: Path) -> None:
    """Raise a ValueError if local photographs are inside or around an output of stages."""
    if not data.is_local:
        return
    location = (root / data.location).resolve()
    for output in OUTPUTS:
        path = (root / output).resolve()
        if location.is_relative_to(path) or path.is_relative_to(location):
            where = "inside" if location.is_relative_to(path) else "around"
            raise ValueError(
                f"data.location: found {data.location}, which is {where} {output}, where stages "
                "write; expected another place, such as data/sources/NAME"
            )


class Features(Section):
    """The frozen backbone whose features initialise the code table."""

    backbone: Text
    """`efficientnet-lite0` or `open_clip:MODEL/PRETRAINED`, e.g. `open_clip:ViT-B-16/openai`; with
    `+thumbnail` behind it, the mean colours of 12 x 12 parts of the image are further features, so
    that codes start from its layout, too."""
    weights: Text | None
    """A local weights file for the backbone; null: its package contains or downloads them."""
    batch_size: Positive
    """Images per forward pass; does not change the features."""
