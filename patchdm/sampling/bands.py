"""One pass of the network over a canvas, as bands of patch rows from top to bottom.

The collage of patch row r needs the features of padded rows r and r + 1 alone, so a band keeps only
its last row of features for the next; every padded row is encoded once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from patchdm.grid import PatchGrid, collage_rows, merge, split
from patchdm.models.unet import PatchUNet, Projected
from patchdm.sampling.tilings import blend_weight

Bands = Iterator[tuple[slice, Tensor]]
"""Pixel rows and their prediction (B, C, rows, W), from top to bottom."""

Places = tuple[tuple[float, float], ...]
"""Positions (row, column) of patches, in patches."""


@dataclass(frozen=True)
class Sight:
    """What a pass sees.

    Attributes:
        unet: the network.
        grid: of the canvas, with a patch more on both sides along an axis that closes on itself.
        x_t: (B, C, H, W), without those.
        wrap: (y, x), whether that axis does.
        time: the projected times.
        tell: the projected positions and codes of patches; of unknown ones for None.
        known: whether the network is told codes and positions.
        band: patch rows that are computed at once.
        rows, cols: first patch row or column that is predicted, and the one behind the last.
        device: where the network computes.
    """

    unet: PatchUNet
    grid: PatchGrid
    x_t: Tensor
    wrap: tuple[bool, bool]
    time: Projected
    tell: Callable[[Sequence[Places] | None], tuple[Projected, Projected]]
    known: bool
    band: int
    rows: tuple[int, int]
    cols: tuple[int, int]
    device: torch.device

    def told(
        self, rows: range, cols: range, down: float, right: float
    ) -> tuple[Projected, Projected]:
        """Return position and code, projected, of patches so much further down and right."""
        if not self.known:
            return self.tell(None)
        return self.tell([tuple((row + down, col + right) for col in cols) for row in rows])


def collaged(sight: Sight, down: int = 0, right: int = 0) -> Bands:
    """Predict shifted patches by feature collage.

    Along an axis where `down` or `right` is 1, the grid has a patch less and lies half a patch
    further in, so that its padded patches lie on the canvas.
    """
    unet, time, p = sight.unet, sight.time, sight.grid.patch_size
    (top, bottom), (first, end) = sight.rows, sight.cols
    last_row: list[Tensor] = []
    for start in range(top, bottom + 1, sight.band):
        padded = range(start, min(start + sight.band, bottom + 1))
        shifted = range(max(start - 1, top), padded.stop - 1)  # the collages these complete
        told = sight.told(padded, range(first, end + 1), down / 2, right / 2)
        area = _padded_area(sight, padded, down, right)
        new = unet.encode(split(area, p).to(sight.device), time, *told)
        new_rows = [z.unflatten(0, (len(area), len(padded), end - first + 1)) for z in new]
        maps = _collage(last_row, new_rows) if shifted else []
        last_row = [z[:, -1:] if len(padded) == 1 else z[:, -1:].clone() for z in new_rows]
        del new, new_rows
        if not shifted:
            continue
        told = sight.told(shifted, range(first, end), (down + 1) / 2, (right + 1) / 2)
        eps = merge(unet.decode(maps, time, *told), len(shifted), end - first)
        del maps  # with guidance, the other pass computes while this one waits
        y = shifted.start * p + down * (p // 2)
        yield slice(y, y + eps.shape[2]), eps


def blended(sight: Sight) -> Bands:
    """Blend collages on four grids, half a patch apart along none, one or both of the axes."""
    grid, (first, end) = sight.grid, sight.cols
    p = grid.patch_size
    of_rows = blend_weight(grid.rows, p, sight.device)[:, None]
    of_cols = blend_weight(grid.cols, p, sight.device)[first * p : end * p]
    others = {
        (down, right): _Rows(_further_in(sight, down, right))
        for down, right in ((0, 1), (1, 0), (1, 1))
        if down < grid.rows and right < grid.cols
    }
    for rows, eps in collaged(sight):
        mean = (of_rows[rows] * of_cols).to(eps.dtype) * eps
        for (down, right), bands in others.items():
            y, x = (1 - of_rows if down else of_rows), (1 - of_cols if right else of_cols)
            mean += (y[rows] * x).to(eps.dtype) * bands.take(eps.shape[2])
        yield rows, mean


def alone(sight: Sight, top: int, left: int) -> Bands:
    """Predict patches of the padded canvas on their own; where two overlap, the later counts.

    A band is all rows, since the last ones may overlap.
    """
    unet, x_t, p = sight.unet, sight.x_t, sight.grid.patch_size
    height, width = x_t.shape[-2:]
    # Of the patches, those that meet what is predicted.
    (y0, y1), (x0, x1) = ((a * p + p // 2, b * p + p // 2) for a, b in (sight.rows, sight.cols))
    tops, lefts = (
        [at for at in starts if at < end and at + p > begin]
        for starts, begin, end in (
            ([min(max(start, 0), height) for start in range(top, height + p // 2, p)], y0, y1),
            ([min(max(start, 0), width) for start in range(left, width + p // 2, p)], x0, x1),
        )
    )
    canvas = F.pad(x_t.to(sight.device), (p // 2,) * 4)
    eps = torch.empty_like(canvas)
    for start in range(0, len(tops), sight.band):
        corners = list(itertools.product(tops[start : start + sight.band], lefts))
        patches = torch.stack([canvas[..., y : y + p, x : x + p] for y, x in corners], dim=1)
        at = tuple((y / p, x / p) for y, x in corners)
        told = sight.tell([at] if sight.known else None)
        features = unet.encode(patches.flatten(0, 1), sight.time, *told)
        decoded = unet.decode(features, sight.time, *told).reshape(patches.shape)
        for (y, x), patch in zip(corners, decoded.unbind(dim=1), strict=True):
            eps[..., y : y + p, x : x + p] = patch
    yield slice(y0 - p // 2, y1 - p // 2), eps[..., y0:y1, x0:x1]


def _further_in(sight: Sight, down: int, right: int) -> Iterator[Tensor]:
    """Yield what is predicted from a grid further in, from the top; 0 where it has no patch."""
    grid, p, half = sight.grid, sight.grid.patch_size, sight.grid.patch_size // 2
    rows, cols = (
        (max(first - more, 0), min(end, count - more))
        for (first, end), more, count in (
            (sight.rows, down, grid.rows),
            (sight.cols, right, grid.cols),
        )
    )
    # What its patches have of the pixels that are predicted, and where these begin and end.
    (top, bottom), (left, edge) = (
        (max(own[0] * p + more * half, wanted[0] * p), min(own[1] * p + more * half, wanted[1] * p))
        for own, wanted, more in ((rows, sight.rows, down), (cols, sight.cols, right))
    )
    origin = cols[0] * p + right * half
    outside = left - sight.cols[0] * p, sight.cols[1] * p - edge
    for band, eps in collaged(replace(sight, rows=rows, cols=cols), down, right):
        start, stop = max(band.start, top), min(band.stop, bottom)
        inside = eps[..., start - band.start : stop - band.start, left - origin : edge - origin]
        above = start - sight.rows[0] * p if start == top else 0
        below = sight.rows[1] * p - stop if stop == bottom else 0
        yield F.pad(inside, (*outside, above, below))


class _Rows:
    """Bands (B, C, rows, W) of any heights, as they are asked for."""

    def __init__(self, bands: Iterator[Tensor]) -> None:
        self._bands, self._kept = bands, list[Tensor]()

    def take(self, count: int) -> Tensor:
        """Return the next rows."""
        while sum(band.shape[2] for band in self._kept) < count:
            self._kept.append(next(self._bands))
        rows = torch.cat(self._kept, dim=2)
        self._kept = [rows[:, :, count:]]
        return rows[:, :, :count]


def _collage(last_row: list[Tensor], new_rows: list[Tensor]) -> list[Tensor]:
    """Collage a band's rows of features with the last row of the band before, if any."""
    if not last_row:
        return [collage_rows(z[:, :-1], z[:, 1:]) for z in new_rows]
    if new_rows[0].shape[1] == 1:
        return [collage_rows(*rows) for rows in zip(last_row, new_rows, strict=True)]
    rows = [torch.cat(pair, dim=1) for pair in zip(last_row, new_rows, strict=True)]
    return [collage_rows(z[:, :-1], z[:, 1:]) for z in rows]


def _padded_area(sight: Sight, rows: range, down: int, right: int) -> Tensor:
    """Cut padded patches out of x_t, padding what lies outside.

    Those of row and column 0 begin half a patch outside, or where x_t begins if `down`, `right`.
    """
    p, (first, end) = sight.grid.patch_size, sight.cols
    area = sight.x_t
    for axis, wrapped, patches, further in (
        (-2, sight.wrap[0], (rows.start, rows.stop), down),
        (-1, sight.wrap[1], (first, end + 1), right),
    ):
        start, stop = ((2 * patch - 1 + further) * (p // 2) - wrapped * p for patch in patches)
        area = _cut(area, axis, start, stop, wrapped=wrapped)
    return area


def _cut(x: Tensor, axis: int, start: int, stop: int, *, wrapped: bool) -> Tensor:
    """Cut pixels start .. stop - 1 along an axis; beyond its ends it goes on anew, or with 0."""
    side = x.shape[axis]
    if not wrapped:
        inside = x.narrow(axis, max(start, 0), min(stop, side) - max(start, 0))
        outside = max(-start, 0), max(stop - side, 0)
        return (
            F.pad(inside, outside if axis == -1 else (0, 0, *outside)) if any(outside) else inside
        )
    parts = []
    while start < stop:
        length = min(stop - start, side - start % side)
        parts.append(x.narrow(axis, start % side, length))
        start += length
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=axis)
