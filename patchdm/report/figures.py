"""Figures of the report as PNG bytes; equal input gives equal bytes."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler
from matplotlib.ticker import EngFormatter, LogFormatter, MaxNLocator, MultipleLocator
from PIL import Image

from patchdm.formats.images import Pixels, contact_sheet

SHEET_WIDTH = 768
"""Pixels across a sheet: as wide as a phone or a column of a desktop page shows sharply."""
ROW_WIDTH = 1152
"""Pixels across a row of images: as wide as a desktop page."""
CROP_SIDE = 32
"""Largest side of a region that is magnified."""
CROP_WIDTH = 128
"""Pixels across a magnified region, as far as 4 to 8 times its size give that."""
CROP_MARGIN = 10
"""Pixels around it, for marks."""

_COLORS = ["#c8442e", "#2f6690", "#d99a2b", "#3d8361", "#8b5a9f", "#5b636e", "#22262b"]
_STYLE: dict[Any, Any] = {
    "axes.edgecolor": "#8a8f98",
    "axes.grid": True,
    "axes.prop_cycle": cycler(color=_COLORS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 9.5,
    "grid.color": "#e6e8eb",
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "text.color": "#22262b",
}
_styled = mpl.rc_context(_STYLE)
_ERROR_BAR: dict[str, Any] = {"fmt": "none", "ecolor": "#22262b", "capsize": 4, "zorder": 3}
_MARKS = (200, 68, 46), (47, 102, 144)
_BORDER: dict[str, Any] = {"color": "#8a8f98", "lw": 0.9, "ls": (0, (2, 3)), "zorder": 1}
_DASHES = "-", "--", ":"
"""Of lines, once all colours are used."""
_PADDED: dict[str, Any] = _BORDER | {"lw": 0.6, "ls": (0, (7, 4))}


def sheet(images: Pixels) -> bytes:
    """Lay images (n, H, W, 3) out on a roughly square sheet."""
    count, height, width, _ = images.shape
    return _sheet(images, min(count, max(1, round(math.sqrt(count * height / width)))), SHEET_WIDTH)


def row(images: Pixels) -> bytes:
    """Lay images (n, H, W, 3) out next to each other."""
    return _sheet(images, len(images), ROW_WIDTH)


def column(images: Pixels) -> bytes:
    """Lay images (n, H, W, 3) out one below the other."""
    return _sheet(images, 1, ROW_WIDTH)


def crops(
    images: Pixels, patch_size: int, places: Iterable[tuple[int, ...]] | None = None
) -> bytes:
    """Magnify of each image (n, H, W, 3) a region around a place (y, x).

    Without places every image shows another corner of four patches, of the shifted and of the
    padded grid in turn. Marks in the
    margin point at the borders in the region, which lie between two pixels: red ones of the
    shifted patches, blue ones of the padded patches.
    """
    sides, half = images.shape[1:3], patch_size // 2
    side = min(2 * patch_size, CROP_SIDE, *sides) // 2 * 2
    factor = min(max(CROP_WIDTH // side, 4), 8)
    size, inside = factor * side + 2 * CROP_MARGIN, slice(CROP_MARGIN, -CROP_MARGIN)
    shown = np.full((len(images), size, size, 3), 255, np.uint8)
    ends = slice(CROP_MARGIN - 2), slice(2 - CROP_MARGIN, None)
    places = places or _corners(sides, patch_size)
    for canvas, image, corner in zip(shown, images, places, strict=False):
        top, left = (
            min(max(place - side // 2, 0), whole - side)
            for place, whole in zip(corner, sides, strict=True)
        )
        region = image[top : top + side, left : left + side]
        canvas[inside, inside] = region.repeat(factor, axis=0).repeat(factor, axis=1)
        for first, along in ((left, canvas), (top, canvas.swapaxes(0, 1))):
            for place in range(side):
                border, odd = divmod(first + place, half)
                if 1 < place < side - 1 and not odd:
                    at = CROP_MARGIN + factor * place
                    for end in ends:
                        along[end, at - 1 : at + 1] = _MARKS[border % 2]
    return _png(contact_sheet(shown, min(len(shown), ROW_WIDTH // size)))


def _corners(sides: Sequence[int], patch_size: int) -> Iterator[tuple[int, ...]]:
    """Yield corners (y, x) of the shifted and of the padded patches in turn, without end.

    The middle stands in where an image is one patch high or wide.
    """
    grids = [
        itertools.cycle(
            itertools.product(*([*range(first, side, patch_size)] or [side // 2] for side in sides))
        )
        for first in (patch_size, patch_size // 2)
    ]
    while True:
        yield from (next(grid) for grid in grids)


def picture(image: Pixels) -> bytes:
    """Show one image (H, W, 3), fitted like the images of a sheet: pixels stay square blocks."""
    return _png(_fitted(image, SHEET_WIDTH))


@_styled
def curves(series: Mapping[str, pd.Series], *, x_label: str, log: bool) -> bytes:
    """Plot training curves over the images or codes seen.

    Args:
        series: values by legend entry, indexed by images or codes seen.
        x_label: what has been seen.
        log: whether the values span decades.
    """
    figure, axes = _figure()
    for name, values in series.items():
        marker = "o" if len(values) == 1 else None  # a line needs two points
        axes.plot(values.index, values, label=name, marker=marker)
    axes.set_xlabel(x_label)
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(_PlainLogFormatter())
        axes.yaxis.set_minor_formatter(_PlainLogFormatter(minor_thresholds=(1.5, 0.4)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
    if len(series) > 1:
        axes.legend()
    return _saved(figure)


@_styled
def profiles(steps: Mapping[str, np.ndarray], patch_size: int, x_label: str) -> bytes:
    """Plot mean steps along one axis of the image.

    Dotted lines stand at the borders of the shifted patches, dashed ones at those of the padded.

    Args:
        steps: (L-1,) steps between neighbours by legend entry, means of `step_maps`.
        patch_size: borders of the shifted patches lie at its multiples.
        x_label: names the axis.
    """
    figure, axes = _figure()
    side = len(next(iter(steps.values()))) + 1
    for first, style in ((patch_size, _BORDER), (patch_size // 2, _PADDED)):
        for border in range(first, side, patch_size):
            axes.axvline(border, **style)
    for name, values in steps.items():
        axes.plot(np.arange(1, side), values, label=name)
    axes.set(xlabel=x_label, ylabel="mean step, grey levels", xlim=(0, side))
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MultipleLocator(_tick_distance(side, patch_size)))
    axes.grid(visible=False, axis="x")
    axes.legend()
    return _saved(figure)


@_styled
def border_profiles(steps: Mapping[str, np.ndarray], patch_size: int) -> bytes:
    """Plot mean steps by their place, a patch border in the middle, half a patch to each side.

    Args:
        steps: (p,) by legend entry, from `by_place`.
        patch_size: p.
    """
    figure, axes = _figure()
    middle = patch_size // 2
    axes.axvline(0, **_BORDER)
    colours = len(mpl.rcParams["axes.prop_cycle"])
    for number, (name, values) in enumerate(steps.items()):
        places = np.arange(-middle, middle + 1)  # both ends are the same place
        dashes = _DASHES[number // colours % len(_DASHES)]
        axes.plot(places, values[places % patch_size], dashes, label=name)
    axes.set(xlabel="pixels from the patch border", ylabel="mean step, grey levels")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=0)
    axes.grid(visible=False, axis="x")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return _saved(figure)


@_styled
def bars(values: Mapping[str, Sequence[float]], x_label: str, mark: float | None = None) -> bytes:
    """Draw a bar to the mean of each group, its sample standard deviation, a dot for each value.

    Args:
        values: of each group, from the top down; a single one has no deviation.
        x_label: what they are.
        mark: where a dotted line stands, if anywhere.
    """
    figure, axes = _figure(1 + 0.32 * len(values))
    axes.grid(visible=False, axis="y")
    axes.set_axisbelow(True)
    for place, of_group in enumerate(values.values()):
        spread = np.std(of_group, ddof=1) if len(of_group) > 1 else None
        axes.barh(place, np.mean(of_group), 0.62, color="#a9c1d3", zorder=2)
        axes.errorbar(np.mean(of_group), place, xerr=spread, **_ERROR_BAR)
        axes.plot(of_group, [place] * len(of_group), "o", color="#c8442e", ms=4, zorder=4)
    if mark is not None:
        axes.axvline(mark, **_BORDER | {"zorder": 3})
    axes.set_yticks(range(len(values)), list(values))
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.set_xlabel(x_label)
    return _saved(figure)


@_styled
def step_map(steps: np.ndarray, patch_size: int, highest: float) -> bytes:
    """Draw the mean step at each pixel of the canvas, ticks at the patch borders.

    Args:
        steps: (H-1, W-1) grey levels.
        patch_size: borders lie at its multiples.
        highest: value of the brightest colour, to be shared by maps that are compared.
    """
    height, width = steps.shape[0] + 1, steps.shape[1] + 1
    figure, axes = _figure(1.3 + 4.6 * height / width)
    extent = (0.5, width - 0.5, height - 0.5, 0.5)  # a step lies between two pixels
    colors = Normalize(0, highest)
    shown = axes.imshow(steps, cmap="magma", norm=colors, extent=extent, interpolation="none")
    axes.set(xlabel="x, pixels", ylabel="y, pixels", xlim=(0, width), ylim=(height, 0))
    axes.xaxis.set_major_locator(MultipleLocator(_tick_distance(width, patch_size)))
    axes.yaxis.set_major_locator(MultipleLocator(_tick_distance(height, patch_size)))
    axes.grid(visible=False)
    figure.colorbar(
        shown, ax=axes, orientation="horizontal", label="mean step, grey levels", aspect=40
    )
    return _saved(figure)


class _PlainLogFormatter(LogFormatter):
    """Writes 0.2 where matplotlib writes 2 x 10^-1, at the ticks that matplotlib labels."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def _figure(height: float = 2.9) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.2, height), dpi=160, layout="constrained")
    return figure, figure.add_subplot()


def _saved(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _sheet(images: Pixels, columns: int, width: int) -> bytes:
    cell = max(width // columns - 2, 8)
    return _png(contact_sheet(np.stack([_fitted(image, cell) for image in images]), columns))


def _tick_distance(side: int, patch_size: int) -> int:
    """Return the multiple of the patch size that gives a side at most 9 ticks."""
    return patch_size * math.ceil(side / patch_size / 8)


def _fitted(image: Pixels, width: int) -> Pixels:
    """Enlarge by a whole factor, or shrink antialiased, to at most `width` pixels."""
    height, own_width, _ = image.shape
    if own_width <= width:
        factor = width // own_width
        return image.repeat(factor, axis=0).repeat(factor, axis=1)
    size = (width, max(1, round(height * width / own_width)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def _png(image: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
