"""The canvas denoiser: what the solver sees as one network on one large image.

The canvas is worked through in bands of patch rows. The collage of patch row r needs the
features of padded rows r and r + 1 alone, so a band keeps only its last row of features for
the next; every padded row is encoded once.

On a CPU a band is one row, whatever is asked for: its features stay in the cache, and since
equal shapes are computed by equal kernels, results do not depend on the height of the bands.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from patchdm.diffusion.guidance import guided
from patchdm.grid import PatchGrid, collage_rows, merge, split
from patchdm.models.unet import PatchUNet, Projected

Tiling = Literal["shifted", "average", "blend"] | tuple[int, int]
"""The patches that predict a canvas: the shifted ones by feature collage (the paper), the mean of
these and the plain padded ones, both blended, or patches on their own from (y, x) on."""

PLAIN = (0, 0)
"""The padded patches on their own."""

_KEPT_PLACES = 1024
"""Patches whose projected positions are kept between the steps of a canvas that is worked on as a
whole; 64 kB each in the paper's network."""


def predict_eps(
    unet: PatchUNet,
    x_t: Tensor,
    t: Tensor,
    cond: Tensor | None,
    *,
    guidance_scale: float | None = None,
    rows_per_chunk: int | None = None,
    cols_per_chunk: int | None = None,
    tiling: Tiling = "shifted",
    grid_shape: tuple[int, int] | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Predict a whole canvas (eps, or v where the network was trained for it).

    Args:
        unet: the network.
        x_t: (B, C, H, W), sides multiples of the patch size; it may lie in a mapped file.
        t: (B,) time steps.
        cond: (B, cond_dim) global codes, or None.
        guidance_scale: w of (1 + w) eps(cond, position) - w eps(none, none); None or 0: off.
        rows_per_chunk: patch rows decoded at once, at most; None: all. Results are equal, memory
            beside x_t and the result grows with it instead of with the height.
        cols_per_chunk: patch columns worked on at once; None: all. The padded column between two
            chunks is encoded for both; memory then does not grow with the width either.
        tiling: "shifted": the collaged patches. "average", "blend": collaged and padded patches,
            counting equally, or each least at its own borders. (y, x), from -p/2 + 1 to p/2: no
            collage; a grid of patches cut from the padded canvas, the first one there. Patches
            that reach out of the padded canvas are moved onto it.
        grid_shape: patch rows and columns that the canvas' positions are rescaled to, those of
            training; None: positions count on beyond them.
        out: where to write the result, like x_t; None: new memory.

    Returns:
        (B, C, H, W), like x_t.

    Raises:
        ValueError: a side of x_t, the tiling, or the size of a chunk does not fit.
    """
    height, width = x_t.shape[-2:]
    denoiser = Denoiser(
        unet,
        PatchGrid.of(height, width, unet.config.patch_size),
        cond,
        rows_per_chunk=rows_per_chunk,
        cols_per_chunk=cols_per_chunk,
        grid_shape=grid_shape,
    )
    return denoiser(x_t, t, guidance_scale=guidance_scale, tiling=tiling, out=out)


class Denoiser:
    """`predict_eps` for many steps: what stays the same between them is computed once.

    That is what the residual blocks make of codes and positions. Arguments as of `predict_eps`.
    """

    def __init__(
        self,
        unet: PatchUNet,
        grid: PatchGrid,
        cond: Tensor | None,
        *,
        rows_per_chunk: int | None = None,
        cols_per_chunk: int | None = None,
        grid_shape: tuple[int, int] | None = None,
    ) -> None:
        for name, size in (("rows_per_chunk", rows_per_chunk), ("cols_per_chunk", cols_per_chunk)):
            if size is not None and size < 1:
                raise ValueError(f"{name} is {size}, expected at least 1")
        self.unet = unet
        self.grid = grid
        self.cond = cond
        self.rows_per_chunk = rows_per_chunk or grid.rows + 1
        self.cols_per_chunk = cols_per_chunk or grid.cols + 1
        rows, cols = grid_shape or (grid.rows, grid.cols)
        self._scale = (rows / grid.rows, cols / grid.cols)
        # Who asks for chunks wants memory that does not grow with the canvas.
        chunked = rows_per_chunk is not None or cols_per_chunk is not None
        self._most_places = 0 if chunked else _KEPT_PLACES
        self._codes: dict[bool, Projected] = {}
        self._places: dict[tuple[tuple[float, float], ...] | None, Projected] = {}

    def __call__(
        self,
        x_t: Tensor,
        t: Tensor,
        *,
        guidance_scale: float | None = None,
        tiling: Tiling = "shifted",
        out: Tensor | None = None,
    ) -> Tensor:
        """Predict x_t (B, C, H, W) at t (B,); see `predict_eps`."""
        eps = torch.empty_like(x_t) if out is None else out
        for first in range(0, self.grid.cols, self.cols_per_chunk):
            end = min(first + self.cols_per_chunk, self.grid.cols)
            pixels = slice(first * self.grid.patch_size, end * self.grid.patch_size)
            for rows, band in self._guided(x_t, t, guidance_scale, tiling, (first, end)):
                eps[..., rows, pixels] = band
        return eps

    def bands(
        self,
        x_t: Tensor,
        t: Tensor,
        *,
        guidance_scale: float | None = None,
        tiling: Tiling = "shifted",
    ) -> Iterator[tuple[slice, Tensor]]:
        """Yield pixel rows and their prediction (B, C, rows, W), from top to bottom.

        When a band is there, its rows of x_t have served: they may be overwritten.
        """
        yield from self._guided(x_t, t, guidance_scale, tiling, (0, self.grid.cols))

    def _guided(
        self,
        x_t: Tensor,
        t: Tensor,
        guidance_scale: float | None,
        tiling: Tiling,
        cols: tuple[int, int],
    ) -> Iterator[tuple[slice, Tensor]]:
        """Yield the bands of patch columns cols[0] to cols[1] - 1."""
        if isinstance(tiling, str) and tiling not in ("shifted", "average", "blend"):
            raise ValueError(
                f"tiling is {tiling!r}, expected shifted, average, blend, and an offset (y, x)"
            )
        predict = _alone if isinstance(tiling, tuple) else _collaged
        equal = len(t) == 1 or bool((t == t[0]).all())  # the plan has one, without a value
        time = self.unet.project_time(t[:1] if equal else t)
        known = predict(self, x_t, time, tiling, cols, known=True)
        if not guidance_scale:
            yield from known
            return
        unknown = predict(self, x_t, time, tiling, cols, known=False)
        for (rows, eps), (_, eps_unknown) in zip(known, unknown, strict=True):
            yield rows, guided(eps, eps_unknown, guidance_scale)

    def code(self, *, known: bool) -> Projected:
        """Return the projected codes, or that of no code."""
        if known not in self._codes:
            self._codes[known] = self.unet.project_cond(self.cond if known else None)
        return self._codes[known]

    def places(self, rows: range, cols: range, offset: float, *, known: bool) -> Projected:
        """Return the projected positions of patches at rows + offset, cols + offset."""
        if not known:
            return self._kept(None)
        # One row at a time, so that bands of any height get the same numbers.
        of_rows = [self._kept(tuple((row + offset, col + offset) for col in cols)) for row in rows]
        if len(of_rows) == 1:
            return of_rows[0]
        halves = zip(*(place.halves for place in of_rows), strict=True)
        joined = [torch.cat(rows_of_half) for rows_of_half in halves]
        return Projected.of(torch.cat([*of_rows]), joined.__getitem__)

    def corners(self, corners: list[tuple[int, int]], *, known: bool) -> Projected:
        """Return the projected positions of patches at pixels (y, x) of the padded canvas."""
        p = self.grid.patch_size
        return self._kept(tuple((y / p, x / p) for y, x in corners) if known else None)

    def _kept(self, places: tuple[tuple[float, float], ...] | None) -> Projected:
        if places in self._places:
            return self._places[places]
        at = None if places is None else torch.tensor(places) * torch.tensor(self._scale)
        projected = self.unet.project_positions(at)
        if sum(len(kept) for kept in self._places.values()) < self._most_places:
            self._places[places] = projected
        return projected

    def band(self, device: torch.device) -> int:
        """Return how many patch rows a network on this device computes at once."""
        return 1 if device.type == "cpu" else self.rows_per_chunk


@lru_cache(maxsize=8)
def blend_weight(grid: PatchGrid, device: torch.device | str = "cpu") -> Tensor:
    """Weight (H, W) of the shifted prediction: 0 towards its borders, 1 towards plain borders.

    With h the distance to the next shifted border over p/2 per axis, the shifted patch counts
    h(y) h(x) and the plain one (1 - h(y)) (1 - h(x)), normalised.
    """
    p = grid.patch_size
    ramp = (torch.arange(p, device=device) + 0.5) / (p / 2)
    hat = torch.minimum(ramp, 2 - ramp)
    y, x = hat.repeat(grid.rows)[:, None], hat.repeat(grid.cols)[None]
    shifted, plain = y * x, (1 - y) * (1 - x)
    return shifted / (shifted + plain)


def _collaged(
    denoiser: Denoiser,
    x_t: Tensor,
    time: Projected,
    tiling: Tiling,
    cols: tuple[int, int],
    *,
    known: bool,
) -> Iterator[tuple[slice, Tensor]]:
    """Predict shifted patches by feature collage, a band of rows at a time.

    For a mean with plain patches, the features are also decoded as they are. The lower half of a
    band's last padded row waits for the next band.
    """
    unet, grid, code = denoiser.unet, denoiser.grid, denoiser.code(known=known)
    p, width = grid.patch_size, cols[1] - cols[0]
    device = time.halves[0].device  # of the network; x_t may lie elsewhere
    band = denoiser.band(device)
    plain = torch.empty(0)
    last_row: list[Tensor] = []
    for start in range(0, grid.rows + 1, band):
        padded = range(start, min(start + band, grid.rows + 1))
        shifted = range(max(start - 1, 0), padded.stop - 1)  # the collages these complete
        place = denoiser.places(padded, range(cols[0], cols[1] + 1), 0.0, known=known)
        patches = split(_padded_area(x_t, p, padded, cols), p).to(device)
        new = unet.encode(patches, time, place, code)
        if tiling != "shifted":
            decoded = merge(unet.decode(new, time, place, code), len(padded), width + 1)
            decoded = decoded[..., p // 2 : -p // 2]
            plain = torch.cat([plain, decoded], dim=2) if start else decoded[..., p // 2 :, :]
        new_rows = [z.unflatten(0, (len(x_t), len(padded), width + 1)) for z in new]
        if shifted:
            maps = _collage(last_row, new_rows)
            place = denoiser.places(shifted, range(*cols), 0.5, known=known)
            eps = merge(unet.decode(maps, time, place, code), len(shifted), width)
            if tiling != "shifted":
                here, plain = plain.split([eps.shape[2], p // 2], dim=2)
                eps = _mean(eps, here, PatchGrid(len(shifted), width, p), tiling)
            yield slice(shifted.start * p, shifted.stop * p), eps
        last_row = [z[:, -1:] if len(padded) == 1 else z[:, -1:].clone() for z in new_rows]


def _collage(last_row: list[Tensor], new_rows: list[Tensor]) -> list[Tensor]:
    """Collage a band's rows of features with the last row of the band before, if any."""
    if not last_row:
        return [collage_rows(z[:, :-1], z[:, 1:]) for z in new_rows]
    if new_rows[0].shape[1] == 1:
        return [collage_rows(*rows) for rows in zip(last_row, new_rows, strict=True)]
    rows = [torch.cat(pair, dim=1) for pair in zip(last_row, new_rows, strict=True)]
    return [collage_rows(z[:, :-1], z[:, 1:]) for z in rows]


def _mean(shifted: Tensor, plain: Tensor, grid: PatchGrid, tiling: Tiling) -> Tensor:
    """Average both predictions of a band as the tiling says."""
    if tiling == "average":
        return (shifted + plain) / 2
    weight = blend_weight(grid, shifted.device).to(shifted.dtype)
    return weight * shifted + (1 - weight) * plain


def _alone(
    denoiser: Denoiser,
    x_t: Tensor,
    time: Projected,
    tiling: Tiling,
    cols: tuple[int, int],
    *,
    known: bool,
) -> Iterator[tuple[slice, Tensor]]:
    """Predict patches of the padded canvas on their own; where two overlap, the later counts.

    A band is all rows, since the last ones may overlap.
    """
    assert isinstance(tiling, tuple)  # noqa: S101 - for mypy
    unet, p, code = denoiser.unet, denoiser.grid.patch_size, denoiser.code(known=known)
    device = time.halves[0].device  # of the network; x_t may lie elsewhere
    band = denoiser.band(device)
    height, width = x_t.shape[-2:]
    tops, lefts = (
        [min(max(start, 0), side) for start in range(first, side + p // 2, p)]
        for first, side in zip(tiling, (height, width), strict=True)
    )
    # Of the chunk of columns, the patches that meet it.
    first, end = cols[0] * p + p // 2, cols[1] * p + p // 2
    lefts = [left for left in lefts if left < end and left + p > first]
    canvas = F.pad(x_t.to(device), (p // 2,) * 4)
    eps = torch.empty_like(canvas)
    for start in range(0, len(tops), band):
        corners = list(itertools.product(tops[start : start + band], lefts))
        patches = torch.stack([canvas[..., y : y + p, x : x + p] for y, x in corners], dim=1)
        place = denoiser.corners(corners, known=known)
        features = unet.encode(patches.flatten(0, 1), time, place, code)
        decoded = unet.decode(features, time, place, code).reshape(patches.shape)
        for (y, x), patch in zip(corners, decoded.unbind(dim=1), strict=True):
            eps[..., y : y + p, x : x + p] = patch
    yield slice(0, height), eps[..., p // 2 : -p // 2, first:end]


def _padded_area(x_t: Tensor, p: int, rows: range, cols: tuple[int, int]) -> Tensor:
    """Cut padded patch rows and columns cols[0]..cols[1] out of x_t, padding what lies outside."""
    height, width = x_t.shape[-2:]
    top, bottom = rows.start * p - p // 2, rows.stop * p - p // 2
    left, right = cols[0] * p - p // 2, (cols[1] + 1) * p - p // 2
    inside = x_t[..., max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    outside = (max(-left, 0), max(right - width, 0), max(-top, 0), max(bottom - height, 0))
    return F.pad(inside, outside)
