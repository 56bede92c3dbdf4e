"""The sections of what the model does beyond sampling images of its training size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from patchdm.errors import PatchDMError
from patchdm.formats.images import Pixels, read_image
from patchdm.metrics.seams import worst_seams
from patchdm.report import figures
from patchdm.report.inputs import read_frame
from patchdm.report.parts import Picture, Section, Table

RESTORED = 6
LARGE = 4
"""Images shown of each task and set."""
SEAMS = 10
_LARGER = "extrapolated", "rescaled"
_SIZES = {
    "training-size": ("Training size", "What the model was trained for."),
    "extrapolated": ("Positions extrapolated", "Counted on beyond the training grid."),
    "rescaled": ("Positions rescaled", "Squeezed into the training grid."),
}
_REPETITION = (
    " Repetition compares parts of an image, as many as training images fit into a large one, with "
    "parts of other images at other places: 0 where they differ as much, 1 where an image repeats "
    "one part. Photographs are above 0, since their parts share light and place."
)


def applications(
    pictures: Path, tables: Path, held_out: Sequence[int], patch_size: int
) -> list[Section]:
    """Show in- and outpainting, and images beyond the training size.

    `pictures` has a folder of each task and set, `tables` has applications.csv and large.csv;
    `held_out` are the rows of the whole held-out photographs, the first of which were restored.

    Raises:
        PatchDMError: a table or a picture is missing or damaged.
    """
    restored = read_frame(tables / "applications.csv", ["task", "method", "n"])
    large = read_frame(tables / "large.csv", ["set", "width", "height"])
    shown = held_out[: min(RESTORED, int(restored["n"].max()))]
    return [_restoring(restored, pictures, shown), _beyond(large, pictures, patch_size)]


def _restoring(scores: pd.DataFrame, pictures: Path, shown: Sequence[int]) -> Section:
    methods = [name for name in scores["method"].unique() if name != "photographs"]
    columns = ["the photograph", "what is known of it", *methods]
    note = f"From left to right: {', '.join(columns)}."
    seeds = "From left to right: the photograph, what is known of it, Patch-DM with several seeds."
    strips = [
        Picture(name, title, text, figures.column(_first(pictures / name, RESTORED)))
        for task in scores["task"].unique()
        for name, title, text in (
            (task, task.capitalize(), note),
            (f"{task}-seeds", f"{task.capitalize()}, several seeds", seeds),
        )
    ]
    return Section(
        key="restoring",
        title="Inpainting and outpainting",
        text="Held-out photographs, the first of them, not chosen by eye. Distances are to the "
        "photograph; a mask seam of 1 means that steps at the mask's border are as those next to "
        "it. KID compares all images with held-out ones; spread is the standard deviation over "
        "seeds in grey levels. PSNR rewards blur: the mean of all that is possible scores best.",
        tables=[_table(scores)],
        pictures=strips,
        shape="wide",
        photographs=shown,
    )


def _beyond(scores: pd.DataFrame, pictures: Path, patch_size: int) -> Section:
    shown, borders = [], []
    for name, width, height in scores[["set", "width", "height"]].itertuples(index=False):
        if name in _SIZES:
            title, note = _SIZES[name]
            images = figures.row(_first(pictures / name, LARGE))
            caption = f"{width} × {height} pixels. {note}"
            shown.append(Picture(f"beyond-{name}", title, caption, images))
            if name in _LARGER:
                table, picture = _worst_seams(_first(pictures / name), name, patch_size)
                shown.append(picture)
                borders.append(table)
    return Section(
        key="beyond",
        title="Beyond the training size",
        text=f"Equal seeds in every row. FID is of square crops, as many of each set, against "
        f"those of the training images.{_REPETITION if 'repetition' in scores else ''}",
        tables=[_table(scores), *borders],
        pictures=shown,
        shape="rows",
    )


def _worst_seams(images: Pixels, name: str, patch_size: int) -> tuple[Table, Picture]:
    """List and magnify the borders of large images (n, H, W, 3) that stand out most."""
    found = worst_seams(images, patch_size, SEAMS)
    rows = [
        [f"{seam.image}", f"{border.grid}, {border.axis} = {border.place}", f"{seam.score:.2f}"]
        for seam in found
        for border in [seam.border]
    ]
    title = f"{_SIZES[name][0]}: the {SEAMS} worst borders"
    crops = figures.crops(
        images[[seam.image for seam in found]], patch_size, [seam.middle for seam in found]
    )
    note = "Where each is largest. A horizon along a border counts too. Red: shifted, blue: padded."
    return (
        Table(f"{title} of {len(images)} images", ["image", "border", "score"], rows),
        Picture(f"beyond-{name}-seams", title, note, crops),
    )


def _first(folder: Path, most: int | None = None) -> Pixels:
    """Read the first pictures of a folder, (n, h, w, 3)."""
    paths = sorted(folder.glob("*.png"))[:most]
    if not paths:
        raise PatchDMError(f"{folder}: found no pictures")
    return np.stack([read_image(path) for path in paths])


def _table(scores: pd.DataFrame) -> Table:
    """Write a table in words; what was not measured is a dash."""
    rows = [[_word(cell) for cell in row] for row in scores.itertuples(index=False)]
    return Table("", [str(name).replace("_", " ") for name in scores.columns], rows)


def _word(cell: Any) -> str:
    if isinstance(cell, float):
        return "–" if math.isnan(cell) else f"{cell:.3f}"
    return str(cell)
