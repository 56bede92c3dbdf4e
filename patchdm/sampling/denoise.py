"""The denoiser: what the solver sees as one network on one large image.

The canvas is worked through in bands of patch rows. The collage of patch row r needs the
features of padded rows r and r + 1 alone, so a band keeps only its last row of features for
the next; every padded row is encoded once.

On a CPU the height of bands follows from the network and the canvas, whatever is asked for: the
features of one stay in the cache, and since equal shapes are computed by equal kernels, results do
not depend on the memory that is allowed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from patchdm.diffusion.guidance import guided
from patchdm.grid import PatchGrid, collage_rows, merge, split
from patchdm.models.unet import PatchUNet, Projected
from patchdm.sampling.tilings import MEANS, Patches, Step, checked_patches, patches_of_step

Bands = Iterator[tuple[slice, Tensor]]
"""Pixel rows and their prediction (B, C, rows, W), from top to bottom."""

BAND_NUMBERS = 2**18
"""Numbers in the first feature maps of a band on a CPU, unless one row has more."""
_KEPT_PLACES = 1024
"""Patches whose projected positions are kept between the steps; 64 kB each in the paper's network,
so that memory does not grow with the canvas."""


def predict_eps(
    unet: PatchUNet,
    x_t: Tensor,
    t: Tensor,
    cond: Tensor | None,
    *,
    guidance_scale: float | None = None,
    rows_per_chunk: int | None = None,
    cols_per_chunk: int | None = None,
    tiling: Patches = "shifted",
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
            next to x_t and the result grows with it instead of with the height.
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
    denoiser = Denoiser(
        unet,
        PatchGrid.of(x_t.shape[-2], x_t.shape[-1], unet.config.patch_size),
        cond,
        rows_per_chunk=rows_per_chunk,
        cols_per_chunk=cols_per_chunk,
        grid_shape=grid_shape,
    )
    return denoiser.predict(x_t, t, checked_patches(tiling), guidance_scale, out)


class Denoiser:
    """A network on a canvas, for many steps: what stays the same between them is computed once.

    That is the projection of codes and positions.

    Args:
        unet: the network.
        grid: of the canvas.
        cond: (B, cond_dim) global codes, or None.
        tiling: a name of `patchdm.choices.Tiling`.
        guidance: time step t -> guidance_scale w; None: no guidance.
        rows_per_chunk, cols_per_chunk, grid_shape: as in `predict_eps`.
        device: where the network computes, if its weights lie elsewhere; None: where they lie.

    Raises:
        ValueError: the size of a chunk does not fit.
    """

    def __init__(
        self,
        unet: PatchUNet,
        grid: PatchGrid,
        cond: Tensor | None,
        *,
        tiling: str = "shifted",
        guidance: Callable[[int], float] | None = None,
        rows_per_chunk: int | None = None,
        cols_per_chunk: int | None = None,
        grid_shape: tuple[int, int] | None = None,
        device: torch.device | None = None,
    ) -> None:
        for name, size in (("rows_per_chunk", rows_per_chunk), ("cols_per_chunk", cols_per_chunk)):
            if size is not None and size < 1:
                raise ValueError(f"{name} is {size}, expected at least 1")
        self.unet, self.grid, self.tiling, self.guidance = unet, grid, tiling, guidance
        self.device: torch.device = device or unet.device
        self.cond = cond
        self._rows_per_chunk = rows_per_chunk or grid.rows + 1
        self._cols_per_chunk = cols_per_chunk or grid.cols + 1
        rows, cols = grid_shape or (grid.rows, grid.cols)
        self._scale = torch.tensor([rows / grid.rows, cols / grid.cols])
        self._places: dict[tuple[tuple[float, float], ...] | None, Projected] = {}

    @property
    def in_chunks_of_columns(self) -> bool:
        """Whether the canvas is worked on in several chunks of columns."""
        return self._cols_per_chunk < self.grid.cols

    @property
    def cond(self) -> Tensor | None:
        """The global codes; they may be replaced between two steps."""
        return self._cond

    @cond.setter
    def cond(self, cond: Tensor | None) -> None:
        self._cond = cond
        self._codes: dict[bool, Projected] = {}

    def __call__(self, x_t: Tensor, step: Step, out: Tensor | None = None) -> Tensor:
        """Predict x_t (B, C, H, W) at a step, into `out` where that is given."""
        return self.predict(x_t, step.t.reshape(1), *self.plan(step), out)

    def bands(self, x_t: Tensor, step: Step) -> Bands:
        """Yield bands of the prediction of x_t (B, C, H, W) at a step.

        When a band is there, its rows of x_t have served: they may be overwritten.
        """
        return self._bands(x_t, step.t.reshape(1), *self.plan(step), (0, self.grid.cols))

    def predict(
        self,
        x_t: Tensor,
        t: Tensor,
        patches: Patches,
        guidance_scale: float | None,
        out: Tensor | None = None,
    ) -> Tensor:
        """Predict x_t (B, C, H, W) at times (B,) or (1,); see `predict_eps`."""
        eps = torch.empty_like(x_t) if out is None else out
        for first in range(0, self.grid.cols, self._cols_per_chunk):
            end = min(first + self._cols_per_chunk, self.grid.cols)
            pixels = slice(first * self.grid.patch_size, end * self.grid.patch_size)
            for rows, band in self._bands(x_t, t, patches, guidance_scale, (first, end)):
                eps[..., rows, pixels] = band
        return eps

    def plan(self, step: Step) -> tuple[Patches, float]:
        """Return the patches and the guidance of a step."""
        config = self.unet.config
        patches = patches_of_step(config.collage, config.patch_size, self.tiling, step)
        return patches, self.guidance(int(step.t)) if self.guidance else 0.0

    def _bands(
        self,
        x_t: Tensor,
        t: Tensor,
        patches: Patches,
        guidance_scale: float | None,
        cols: tuple[int, int],
    ) -> Bands:
        """Yield the bands of patch columns cols[0] to cols[1] - 1."""
        equal = len(t) == 1 or bool((t == t[0]).all())  # one on device meta has no value
        time = self.unet.project_time((t[:1] if equal else t).to(self.device))
        known = self._seen(_Sight(x_t, time, cols, known=True), patches)
        if not guidance_scale:
            yield from known
            return
        unknown = self._seen(_Sight(x_t, time, cols, known=False), patches)
        for (rows, eps), (_, eps_unknown) in zip(known, unknown, strict=True):
            yield rows, guided(eps, eps_unknown, guidance_scale)

    def _seen(self, sight: _Sight, patches: Patches) -> Bands:
        if isinstance(patches, tuple):
            return self._alone(sight, *patches)
        return self._collaged(sight, patches)

    def _collaged(self, sight: _Sight, tiling: str) -> Bands:
        """Predict shifted patches by feature collage, a band of rows at a time.

        For a mean with plain patches, the features are also decoded as they are. The lower half of
        a band's last padded row waits for the next band.
        """
        unet, grid, known = self.unet, self.grid, sight.known
        x_t, time, code = sight.x_t, sight.time, self._code(known=known)
        p, (first, end), mean = grid.patch_size, sight.cols, MEANS.get(tiling)
        width, band = end - first, self._band(len(x_t))
        plain = torch.empty(0)
        last_row: list[Tensor] = []
        for start in range(0, grid.rows + 1, band):
            padded = range(start, min(start + band, grid.rows + 1))
            shifted = range(max(start - 1, 0), padded.stop - 1)  # the collages these complete
            place = self._rows_of_places(padded, range(first, end + 1), 0.0, known=known)
            patches = split(_padded_area(x_t, p, padded, sight.cols), p).to(self.device)
            new = unet.encode(patches, time, place, code)
            if mean:
                decoded = merge(unet.decode(new, time, place, code), len(padded), width + 1)
                decoded = decoded[..., p // 2 : -p // 2]
                plain = torch.cat([plain, decoded], dim=2) if start else decoded[..., p // 2 :, :]
            new_rows = [z.unflatten(0, (len(x_t), len(padded), width + 1)) for z in new]
            maps = _collage(last_row, new_rows) if shifted else []
            last_row = [z[:, -1:] if len(padded) == 1 else z[:, -1:].clone() for z in new_rows]
            del new, new_rows
            if not shifted:
                continue
            place = self._rows_of_places(shifted, range(first, end), 0.5, known=known)
            eps = merge(unet.decode(maps, time, place, code), len(shifted), width)
            del maps  # with guidance, the other pass computes while this one waits
            if mean:
                here, plain = plain.split([eps.shape[2], p // 2], dim=2)
                eps = mean(eps, here, PatchGrid(len(shifted), width, p))
            yield slice(shifted.start * p, shifted.stop * p), eps

    def _alone(self, sight: _Sight, top: int, left: int) -> Bands:
        """Predict patches of the padded canvas on their own; where two overlap, the later counts.

        A band is all rows, since the last ones may overlap.
        """
        unet, x_t, p = self.unet, sight.x_t, self.grid.patch_size
        band, code = self._band(len(x_t)), self._code(known=sight.known)
        height, width = x_t.shape[-2:]
        tops, lefts = (
            [min(max(start, 0), side) for start in range(corner, side + p // 2, p)]
            for corner, side in ((top, height), (left, width))
        )
        # Of the chunk of columns, the patches that meet it.
        first, end = (col * p + p // 2 for col in sight.cols)
        lefts = [x for x in lefts if x < end and x + p > first]
        canvas = F.pad(x_t.to(self.device), (p // 2,) * 4)
        eps = torch.empty_like(canvas)
        for start in range(0, len(tops), band):
            corners = list(itertools.product(tops[start : start + band], lefts))
            patches = torch.stack([canvas[..., y : y + p, x : x + p] for y, x in corners], dim=1)
            at = tuple((y / p, x / p) for y, x in corners)
            place = self._projected(at if sight.known else None)
            features = unet.encode(patches.flatten(0, 1), sight.time, place, code)
            decoded = unet.decode(features, sight.time, place, code).reshape(patches.shape)
            for (y, x), patch in zip(corners, decoded.unbind(dim=1), strict=True):
                eps[..., y : y + p, x : x + p] = patch
        yield slice(0, height), eps[..., p // 2 : -p // 2, first:end]

    def _code(self, *, known: bool) -> Projected:
        """Return the projected codes, or that of no code."""
        if known not in self._codes:
            codes = self.cond
            if codes is None or not known:
                codes = torch.zeros(1, self.unet.config.cond_dim)
            self._codes[known] = self.unet.project_cond(codes.to(self.device))
        return self._codes[known]

    def _rows_of_places(self, rows: range, cols: range, offset: float, *, known: bool) -> Projected:
        """Return the projected positions of patches at rows + offset, cols + offset."""
        if not known:
            return self._projected(None)
        # One row at a time, so that bands of any height get the same numbers.
        of_rows = [
            self._projected(tuple((row + offset, col + offset) for col in cols)) for row in rows
        ]
        if len(of_rows) == 1:
            return of_rows[0]
        halves = zip(*(place.halves for place in of_rows), strict=True)
        joined = [torch.cat(rows_of_half) for rows_of_half in halves]
        return Projected.of(torch.cat([*of_rows]), joined.__getitem__)

    def _projected(self, places: tuple[tuple[float, float], ...] | None) -> Projected:
        """Return projected positions (row, column), or that of an unknown one."""
        if places in self._places:
            return self._places[places]
        at = torch.tensor(places or [(torch.nan, torch.nan)]) * self._scale
        projected = self.unet.project_positions(at.to(self.device))
        if sum(len(kept) for kept in self._places.values()) < _KEPT_PLACES:
            self._places[places] = projected
        return projected

    def _band(self, batch: int) -> int:
        """Return how many patch rows of a batch are computed at once."""
        if self.device.type != "cpu":
            return self._rows_per_chunk
        return max(1, BAND_NUMBERS // (batch * row_numbers(self.unet, self.grid.cols)))


def row_numbers(unet: PatchUNet, cols: int) -> int:
    """Return how many numbers the first feature maps of a padded row of patches have."""
    config = unet.config
    return int((cols + 1) * (config.patch_size // config.pixel_fold) ** 2 * config.channels[0])


@dataclass(frozen=True)
class _Sight:
    """One pass of the network over a canvas.

    Attributes:
        x_t: (B, C, H, W).
        time: the projected times.
        cols: first patch column, and the one behind the last.
        known: whether the network is told codes and positions.
    """

    x_t: Tensor
    time: Projected
    cols: tuple[int, int]
    known: bool


def _collage(last_row: list[Tensor], new_rows: list[Tensor]) -> list[Tensor]:
    """Collage a band's rows of features with the last row of the band before, if any."""
    if not last_row:
        return [collage_rows(z[:, :-1], z[:, 1:]) for z in new_rows]
    if new_rows[0].shape[1] == 1:
        return [collage_rows(*rows) for rows in zip(last_row, new_rows, strict=True)]
    rows = [torch.cat(pair, dim=1) for pair in zip(last_row, new_rows, strict=True)]
    return [collage_rows(z[:, :-1], z[:, 1:]) for z in rows]


def _padded_area(x_t: Tensor, p: int, rows: range, cols: tuple[int, int]) -> Tensor:
    """Cut padded patch rows and columns cols[0]..cols[1] out of x_t, padding what lies outside."""
    height, width = x_t.shape[-2:]
    top, bottom = rows.start * p - p // 2, rows.stop * p - p // 2
    left, right = cols[0] * p - p // 2, (cols[1] + 1) * p - p // 2
    inside = x_t[..., max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    outside = (max(-left, 0), max(right - width, 0), max(-top, 0), max(bottom - height, 0))
    return F.pad(inside, outside)
