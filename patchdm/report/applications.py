"""The sections of what the model does beyond sampling images of its training size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from patchdm.errors import PatchDMError
from patchdm.formats.images import Pixels, read_image
from patchdm.report import figures
from patchdm.report.inputs import read_frame
from patchdm.report.parts import Picture, Section, Table

RESTORED_IMAGES = 6
LARGE_IMAGES = 4
_PHOTOGRAPHS = "photographs"
_SIZES = {
    "training-size": ("Training size", "What the model was trained for."),
    "extrapolated": ("Positions extrapolated", "Counted on beyond the training grid."),
    "rescaled": ("Positions rescaled", "Squeezed into the training grid."),
}


def applications(pictures: Path, tables: Path) -> list[Section]:
    """Show in- and outpainting, and images beyond the training size.

    Args:
        pictures: folder with a folder of pictures for each task and set.
        tables: folder of applications.csv and large.csv.

    Raises:
        PatchDMError: a table or a picture is missing or damaged.
    """
    restored = read_frame(tables / "applications.csv", ["task", "method"])
    large = read_frame(tables / "large.csv", ["set", "width", "height"])
    tasks, sets = restored["task"].unique(), [name for name in large["set"] if name in _SIZES]
    return [
        restoring(restored, {task: _first(pictures / task, RESTORED_IMAGES) for task in tasks}),
        beyond(large, {name: _first(pictures / name, LARGE_IMAGES) for name in sets}),
    ]


def restoring(scores: pd.DataFrame, strips: Mapping[str, Pixels]) -> Section:
    """Show in- and outpainting beside ways without a model.

    Args:
        scores: applications.csv: `task`, `method`, and measures.
        strips: task -> pictures (n, h, w, 3), each a photograph, its known part, and what each
            method made of it, from left to right.
    """
    columns = ["the photograph", "what is known of it", *_methods(scores)]
    return Section(
        key="restoring",
        title="Inpainting and outpainting",
        text="Held-out photographs, the first of them, not chosen by eye. Distances are to the "
        "photograph; a mask seam of 1 means that steps at the mask's border are as those beside "
        "it. PSNR rewards blur: the mean of all that is possible scores best.",
        tables=[_table(scores)],
        pictures=[
            Picture(
                task,
                task.capitalize(),
                f"From left to right: {', '.join(columns)}.",
                figures.column(pictures),
            )
            for task, pictures in strips.items()
        ],
        shape="wide",
    )


def beyond(scores: pd.DataFrame, samples: Mapping[str, Pixels]) -> Section:
    """Show samples beyond the training size, their positions extrapolated and rescaled.

    Args:
        scores: large.csv: `set`, and measures.
        samples: set -> images (n, H, W, 3) of equal seeds.
    """
    widths, heights = (
        dict(zip(scores["set"], scores[side], strict=True)) for side in ("width", "height")
    )
    return Section(
        key="beyond",
        title="Beyond the training size",
        text="Equal seeds in every row. FID is of square crops, as many of each set, against "
        "those of the training images.",
        tables=[_table(scores)],
        pictures=[
            Picture(
                f"beyond-{name}",
                _SIZES[name][0],
                f"{widths[name]} × {heights[name]} pixels. {_SIZES[name][1]}",
                figures.row(images),
            )
            for name, images in samples.items()
        ],
        shape="rows",
    )


def _first(folder: Path, most: int) -> Pixels:
    """Read the first pictures of a folder, (n, h, w, 3)."""
    paths = sorted(folder.glob("*.png"))[:most]
    if not paths:
        raise PatchDMError(f"{folder}: found no pictures")
    return np.stack([read_image(path) for path in paths])


def _methods(scores: pd.DataFrame) -> list[str]:
    return [str(name) for name in scores["method"].unique() if name != _PHOTOGRAPHS]


def _table(scores: pd.DataFrame) -> Table:
    """Write a table in words; what was not measured is a dash."""
    rows = [[_word(cell) for cell in row] for row in scores.itertuples(index=False)]
    return Table("", [str(name).replace("_", " ") for name in scores.columns], rows)


def _word(cell: Any) -> str:
    if isinstance(cell, float):
        return "–" if math.isnan(cell) else f"{cell:.3f}"
    return str(cell)
