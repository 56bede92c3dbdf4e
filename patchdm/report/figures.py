"""Figures of the report as PNG bytes; equal input gives equal bytes."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogFormatter, MultipleLocator
from PIL import Image

from patchdm.data.images import Pixels, contact_sheet

SHEET_WIDTH = 768
"""Pixels across a sheet: as wide as a phone or a column of a desktop page shows sharply."""

_STYLE: dict[Any, Any] = {
    "axes.edgecolor": "#8a8f98",
    "axes.grid": True,
    "axes.prop_cycle": cycler(color=["#c8442e", "#2f6690", "#d99a2b", "#3d8361"]),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 9.5,
    "grid.color": "#e6e8eb",
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "text.color": "#22262b",
}
_BORDER: dict[str, Any] = {
    "color": "#8a8f98",
    "linewidth": 0.9,
    "linestyle": (0, (2, 3)),
    "zorder": 1,
}


def sheet(images: Pixels) -> bytes:
    """Lay images (n, H, W, 3) out on a roughly square sheet."""
    count, height, width, _ = images.shape
    columns = min(count, max(1, round(math.sqrt(count * height / width))))
    cell = max(SHEET_WIDTH // columns - 2, 8)
    return _png(contact_sheet(np.stack([_fitted(image, cell) for image in images]), columns))


def picture(image: Pixels) -> bytes:
    """Show one image (H, W, 3), fitted like the images of a sheet: pixels stay square blocks."""
    return _png(_fitted(image, SHEET_WIDTH))


def curves(series: Mapping[str, pd.Series], *, x_label: str, log: bool) -> bytes:
    """Plot training curves over the images or codes seen.

    Args:
        series: values by legend entry, indexed by images or codes seen.
        x_label: what has been seen.
        log: whether the values span decades.
    """

    def draw(_: Figure, axes: Axes) -> None:
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

    return _figure(draw)


def profiles(steps: Mapping[str, np.ndarray], patch_size: int, x_label: str) -> bytes:
    """Plot mean steps along one axis of the image, dotted lines at the patch borders.

    Args:
        steps: (L-1,) steps between neighbours by legend entry, from `border_profile`.
        patch_size: borders lie at its multiples.
        x_label: names the axis.
    """

    def draw(_: Figure, axes: Axes) -> None:
        side = len(next(iter(steps.values()))) + 1
        for border in range(patch_size, side, patch_size):
            axes.axvline(border, **_BORDER)
        for name, values in steps.items():
            axes.plot(np.arange(1, side), values, label=name)
        axes.set(xlabel=x_label, ylabel="mean step, grey levels", xlim=(0, side))
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MultipleLocator(_tick_distance(side, patch_size)))
        axes.grid(visible=False, axis="x")
        axes.legend()

    return _figure(draw)


def step_map(steps: np.ndarray, patch_size: int, highest: float) -> bytes:
    """Draw the mean step at each pixel of the canvas, ticks at the patch borders.

    Args:
        steps: (H-1, W-1) grey levels.
        patch_size: borders lie at its multiples.
        highest: value of the brightest colour, to be shared by maps that are compared.
    """
    height, width = steps.shape[0] + 1, steps.shape[1] + 1

    def draw(figure: Figure, axes: Axes) -> None:
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

    return _figure(draw, height=1.3 + 4.6 * height / width)


class _PlainLogFormatter(LogFormatter):
    """Writes 0.2 where matplotlib writes 2 x 10^-1, at the ticks that matplotlib labels."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def _figure(draw: Callable[[Figure, Axes], None], height: float = 2.9) -> bytes:
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(5.2, height), dpi=160, layout="constrained")
        draw(figure, figure.add_subplot())
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


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
