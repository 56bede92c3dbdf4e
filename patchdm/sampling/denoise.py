"""The denoiser: what the solver sees as one network on one large image.

The canvas is worked through in bands of patch rows, see `patchdm.sampling.bands`.

On a CPU the height of bands follows from the network and the canvas, whatever is asked for: the
features of one stay in the cache, and since equal shapes are computed by equal kernels, results do
not depend on the memory that is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from patchdm.diffusion.guidance import guided
from patchdm.grid import PatchGrid
from patchdm.models.unet import PatchUNet, Projected
from patchdm.sampling.bands import Bands, Places, Sight, alone, blended, collaged
from patchdm.sampling.fields import codes_at
from patchdm.sampling.positions import checked_wrap, placing
from patchdm.sampling.tilings import Patches, Step, checked_patches, patches_of_step

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
    positions: str = "extrapolate",
    wrap: str = "none",
    out: Tensor | None = None,
) -> Tensor:
    """Predict a whole canvas (eps, or v where the network was trained for it).

    Args:
        unet: the network.
        x_t: (B, C, H, W), sides multiples of the patch size; it may lie in a mapped file.
        t: (B,) time steps.
        cond: (B, cond_dim) global codes, or a field of them, (B, rows, columns, cond_dim): see
            `patchdm.sampling.fields`; None: unknown.
        guidance_scale: w of (1 + w) eps(cond, position) - w eps(none, none); None or 0: off.
        rows_per_chunk: patch rows decoded at once, at most; None: all. Results are equal, memory
            next to x_t and the result grows with it instead of with the height.
        cols_per_chunk: patch columns worked on at once; None: all. The padded column between two
            chunks is encoded for both; memory then does not grow with the width either.
        tiling: "shifted": the collaged patches. "blend": the mean of four grids of collaged
            patches, half a patch apart, each counting least at its own borders. (y, x), from
            -p/2 + 1 to p/2: no collage; a grid of patches cut from the padded canvas, the first
            one there. Patches that reach out of the padded canvas are moved onto it.
        positions: of patches beyond the training size, see `patchdm.sampling.positions`.
        wrap: axes along which the canvas closes on itself: "none", "x", "y" or "xy". The left edge
            then goes on at the right one.
        out: where to write the result, like x_t; None: new memory.

    Returns:
        (B, C, H, W), like x_t.

    Raises:
        ValueError: an argument does not fit.
    """
    denoiser = Denoiser(
        unet,
        PatchGrid.of(x_t.shape[-2], x_t.shape[-1], unet.config.patch_size),
        cond,
        rows_per_chunk=rows_per_chunk,
        cols_per_chunk=cols_per_chunk,
        positions=positions,
        wrap=wrap,
    )
    return denoiser.predict(x_t, t, checked_patches(tiling), guidance_scale, out)


class Denoiser:
    """A network on a canvas, for many steps: what stays the same between them is computed once.

    That is the projection of codes and positions.

    Args:
        unet: the network.
        grid: of the canvas.
        cond: (B, cond_dim) global codes, a field of them, or None.
        tiling: a name of `patchdm.choices.Tiling`.
        guidance: time step t -> guidance_scale w; None: no guidance.
        rows_per_chunk, cols_per_chunk, positions, wrap: as in `predict_eps`.
        device: where the network computes, if its weights lie elsewhere; None: where they lie.

    Raises:
        ValueError: an argument does not fit.
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
        positions: str = "extrapolate",
        wrap: str = "none",
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
        self.wrap = checked_wrap(wrap, unet.config.collage)
        self._wraps = "y" in wrap, "x" in wrap
        self._placing = placing(unet.config, positions, grid, wrap)
        self._places: dict[Places | None, Projected] = {}

    @property
    def cond(self) -> Tensor | None:
        """The global codes; they may be replaced between two steps."""
        return self._cond

    @cond.setter
    def cond(self, cond: Tensor | None) -> None:
        self._cond = cond
        self._codes: dict[Places | None, Projected] = {}

    def __call__(self, x_t: Tensor, step: Step, out: Tensor | None = None) -> Tensor:
        """Predict x_t (B, C, H, W) at a step, into `out` where that is given."""
        return self.predict(x_t, step.t.reshape(1), *self.plan(step), out)

    def block(
        self, x_t: Tensor, step: Step, rows: tuple[int, int], cols: tuple[int, int]
    ) -> Tensor:
        """Predict the patches of some rows and columns of x_t, (B, C, rows * p, cols * p)."""
        bands = self._bands(x_t, step.t.reshape(1), *self.plan(step), rows, cols)
        return torch.cat([eps for _, eps in bands], dim=2)

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
            part = (0, self.grid.rows), (first, end)
            for rows, band in self._bands(x_t, t, patches, guidance_scale, *part):
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
        rows: tuple[int, int],
        cols: tuple[int, int],
    ) -> Bands:
        """Yield the bands of patch rows rows[0] to rows[1] - 1, of such columns."""
        equal = len(t) == 1 or bool((t == t[0]).all())  # one on device meta has no value
        time = self.unet.project_time((t[:1] if equal else t).to(self.device))
        more_rows, more_cols = self._wraps
        if isinstance(patches, tuple) and self.wrap != "none":
            raise ValueError(f"`wrap` is {self.wrap!r}, expected 'none' with tiling {patches}")
        grid = PatchGrid(
            self.grid.rows + 2 * more_rows, self.grid.cols + 2 * more_cols, self.grid.patch_size
        )
        sight = Sight(
            unet=self.unet,
            grid=grid,
            x_t=x_t,
            wrap=self._wraps,
            time=time,
            tell=self._told,
            known=True,
            band=self._band(len(x_t)),
            rows=(rows[0] + more_rows, rows[1] + more_rows),
            cols=(cols[0] + more_cols, cols[1] + more_cols),
            device=self.device,
        )
        bands = _seen(sight, patches)
        if guidance_scale:
            unknown = _seen(replace(sight, known=False), patches)
            pairs = zip(bands, unknown, strict=True)
            bands = (
                (rows, guided(eps, other, guidance_scale)) for (rows, eps), (_, other) in pairs
            )
        above = more_rows * grid.patch_size
        return ((slice(at.start - above, at.stop - above), eps) for at, eps in bands)

    def _told(self, rows: Sequence[Places] | None) -> tuple[Projected, Projected]:
        """Return positions and codes, projected, of rows of patches; of unknown ones for None."""
        if rows is None:
            return self._place(None), self._code(None)
        field = self.cond if self.cond is not None and self.cond.ndim == 4 else None
        # One row at a time, so that bands of any height get the same numbers.
        places = [self._place(row) for row in rows]
        if field is None:
            return _joined(places, 1), self._code(())
        return _joined(places, 1), _joined([self._code(row) for row in rows], len(field))

    def _place(self, places: Places | None) -> Projected:
        """Return the projected positions of patches, or that of an unknown one."""

        def projected() -> Projected:
            at = (
                torch.full((1, 2), torch.nan) if places is None else self._placing(self._at(places))
            )
            return self.unet.project_positions(at.to(self.device))

        return self._kept(self._places, places, projected)

    def _code(self, places: Places | None) -> Projected:
        """Return the projected codes of patches in a field, of all patches for (), or no code."""

        def projected() -> Projected:
            codes = self.cond
            if codes is None or places is None:
                codes = torch.zeros(1, self.unet.config.cond_dim)
            elif places:
                codes = codes_at(codes, self._at(places), self.grid, self.wrap).flatten(0, 1)
            return self.unet.project_cond(codes.to(self.device))

        return self._kept(self._codes, places, projected)

    def _at(self, places: Places) -> Tensor:
        """Return (P, 2) places on the canvas, of those on it and what goes on beside it."""
        return torch.tensor(places) - torch.tensor(self._wraps, dtype=torch.float32)

    @staticmethod
    def _kept(
        known: dict[Places | None, Projected],
        places: Places | None,
        projected: Callable[[], Projected],
    ) -> Projected:
        """Return what is known of some patches, or find it and keep it for the next steps."""
        if places in known:
            return known[places]
        found = projected()
        if sum(len(kept) for kept in known.values()) < _KEPT_PLACES:
            known[places] = found
        return found

    def _band(self, batch: int) -> int:
        """Return how many patch rows of a batch are computed at once."""
        if self.device.type != "cpu":
            return self._rows_per_chunk
        return max(1, BAND_NUMBERS // (batch * row_numbers(self.unet, self.grid.cols)))


def _joined(rows: list[Projected], batch: int) -> Projected:
    """Join rows of projections (batch * P, ..), which are image by image."""
    if len(rows) == 1:
        return rows[0]

    def join(tensors: Iterable[Tensor]) -> Tensor:
        return torch.cat([row.unflatten(0, (batch, -1)) for row in tensors], dim=1).flatten(0, 1)

    halves = [join(of_half) for of_half in zip(*(row.halves for row in rows), strict=True)]
    return Projected.of(join([*rows]), halves.__getitem__)


def _seen(sight: Sight, patches: Patches) -> Bands:
    if isinstance(patches, tuple):
        return alone(sight, *patches)
    return blended(sight) if patches == "blend" else collaged(sight)


def row_numbers(unet: PatchUNet, cols: int) -> int:
    """Return how many numbers the first feature maps of a padded row of patches have."""
    config = unet.config
    return int((cols + 1) * (config.patch_size // config.pixel_fold) ** 2 * config.channels[0])
