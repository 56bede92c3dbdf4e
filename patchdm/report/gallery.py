"""The pictures of the report, with their words, from what a run left behind."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from patchdm.data.images import Pixels
from patchdm.metrics.seams import step_maps
from patchdm.report import figures

_REAL = "training images"


@dataclass(frozen=True)
class Picture:
    """A PNG of the page, its file name without suffix, and the words that go with it."""

    name: str
    title: str
    caption: str
    png: bytes

    @property
    def uri(self) -> str:
        """The image as a data URI."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, as the PNG's header has them."""
        width, height = struct.unpack(">II", self.png[16:24])
        return width, height


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """The pictures of each section."""

    sheets: Sequence[Picture]
    seams: Sequence[Picture]
    curves: Sequence[Picture]
    progress: Sequence[Picture]

    def all(self) -> list[Picture]:
        """Return the pictures in the order of the page."""
        return [*self.sheets, *self.seams, *self.curves, *self.progress]


def sheet_pictures(samples: Pixels, train: Pixels, test: Pixels) -> list[Picture]:
    """Lay samples and photographs out on a sheet each; all are uint8 (n, H, W, 3)."""
    sets = [
        ("samples", "Samples", "the first seeds", samples),
        ("train", "Training images", "mirror images left out", train),
        ("test", "Held-out images", "never trained on", test),
    ]
    return [
        Picture(f"sheet-{name}", title, f"{len(images)} images, {note}.", figures.sheet(images))
        for name, title, note, images in sets
    ]


def seam_pictures(
    samples: Iterable[Pixels], train: Iterable[Pixels], patch_size: int
) -> list[Picture]:
    """Draw the mean steps of samples and training images, by column, by row and by pixel.

    Args:
        samples, train: batches (n, H, W, 3) uint8 of one size, read as they are asked for.
        patch_size: borders lie at its multiples.

    Raises:
        ValueError: a set has no image.
    """
    steps = {"samples": step_maps(samples), _REAL: step_maps(train)}
    by_column = {name: across.mean(axis=0) for name, (across, _) in steps.items()}
    by_row = {name: down.mean(axis=1) for name, (_, down) in steps.items()}
    # The mean of the step to the right and the step down, where a pixel has both.
    maps = {name: (across[:-1] + down[:, :-1]) / 2 for name, (across, down) in steps.items()}
    highest = max(float(np.percentile(steps, 99.5)) for steps in maps.values())
    note = f"Dotted lines: borders of the {patch_size}-pixel patches."
    return [
        Picture(
            "profile-columns",
            "Steps from column to column",
            note,
            figures.profiles(by_column, patch_size, "x, pixels"),
        ),
        Picture(
            "profile-rows",
            "Steps from row to row",
            note,
            figures.profiles(by_row, patch_size, "y, pixels"),
        ),
        Picture(
            "steps-samples",
            "Steps at each pixel: samples",
            "Ticks at patch borders; colours as in the map of training images.",
            figures.step_map(maps["samples"], patch_size, highest),
        ),
        Picture(
            "steps-train",
            "Steps at each pixel: training images",
            "What no seam looks like.",
            figures.step_map(maps[_REAL], patch_size, highest),
        ),
    ]


def curve_pictures(
    curves: Mapping[str, pd.Series], *, name: str, model: str, seen: str
) -> list[Picture]:
    """Plot the curves of one training: losses, learning rate, norm of the gradients.

    Args:
        curves: by name; those called loss.. share a plot.
        name: start of the pictures' names.
        model: what was trained.
        seen: what the steps count.
    """
    losses = {
        curve.replace("_", ", "): values
        for curve, values in curves.items()
        if curve.partition("_")[0] == "loss"
    }
    rate, norm = curves["learning_rate"], curves["grad_norm"]
    return [
        Picture(
            f"{name}-loss",
            f"{model}: loss",
            f"Last: {losses['loss'].iloc[-1]:.4f}.",
            figures.curves(losses, x_label=seen, log=True),
        ),
        Picture(
            f"{name}-learning-rate",
            f"{model}: learning rate",
            f"Highest: {rate.max():.3g}.",
            figures.curves({"learning rate": rate}, x_label=seen, log=False),
        ),
        Picture(
            f"{name}-grad-norm",
            f"{model}: norm of the gradients",
            f"Before clipping. Last: {norm.iloc[-1]:.3g}.",
            figures.curves({"norm": norm}, x_label=seen, log=True),
        ),
    ]


def progress_pictures(sheets: Mapping[int, Pixels]) -> list[Picture]:
    """Show sheets (H, W, 3) drawn during the training, by the images seen."""
    return [
        Picture(
            f"progress-{seen:09d}",
            f"{seen:,} images seen",
            "",
            figures.picture(image),
        )
        for seen, image in sheets.items()
    ]
