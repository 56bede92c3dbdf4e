"""The canvas denoiser: what the solver sees as one network on one large image.

The canvas is worked through in bands of patch rows. The collage of patch row r needs the
features of padded rows r and r + 1 alone, so a band keeps only its last row of features for
the next; every padded row is encoded once.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from patchdm.grid import PatchGrid, collage, merge, positions, split
from patchdm.models.unet import PatchUNet

Tiling = Literal["shifted", "plain", "blend"]


def predict_eps(
    unet: PatchUNet,
    x_t: Tensor,
    t: Tensor,
    cond: Tensor | None,
    *,
    guidance_scale: float | None = None,
    rows_per_chunk: int | None = None,
    tiling: Tiling = "shifted",
) -> Tensor:
    """Predict a whole canvas (eps, or v where the network was trained for it).

    Args:
        unet: the network.
        x_t: (B, C, H, W), sides multiples of the patch size.
        t: (B,) time steps.
        cond: (B, cond_dim) global codes, or None.
        guidance_scale: w of (1 + w) eps(cond, position) - w eps(none, none); None or 0: off.
        rows_per_chunk: patch rows decoded at once; None: all. Results are equal.
        tiling: the prediction of the shifted patches (the paper), of the plain padded patches,
            or both blended so that each counts least at its own borders.

    Returns:
        (B, C, H, W), like x_t.

    Raises:
        ValueError: a side of x_t or rows_per_chunk does not fit.
    """
    height, width = x_t.shape[-2:]
    grid = PatchGrid.of(height, width, unet.config.patch_size)
    band = grid.rows if rows_per_chunk is None else rows_per_chunk
    if band < 1:
        raise ValueError(f"rows_per_chunk is {rows_per_chunk}, allowed are 1 and more")
    eps = _predict(unet, x_t, t, cond, grid, band, tiling, known_place=True)
    if not guidance_scale:
        return eps
    unknown = _predict(unet, x_t, t, None, grid, band, tiling, known_place=False)
    return (1 + guidance_scale) * eps - guidance_scale * unknown


def _predict(
    unet: PatchUNet,
    x_t: Tensor,
    t: Tensor,
    cond: Tensor | None,
    grid: PatchGrid,
    band: int,
    tiling: Tiling,
    *,
    known_place: bool,
) -> Tensor:
    p = grid.patch_size
    place = _Places(grid, known_place, x_t.device)
    shifted, plain = torch.empty_like(x_t), torch.empty_like(x_t)
    last_row: list[Tensor] = []
    for start in range(0, grid.rows, band):
        stop = min(start + band, grid.rows)
        first = start + 1 if start else 0  # padded rows first..stop are new to this band
        where = place.padded(first, stop + 1)
        features = unet.encode(_padded_rows(x_t, p, first, stop + 1), t, where, cond)
        if tiling != "shifted":
            decoded = unet.decode(features, t, where, cond)
            _put_padded_rows(plain, merge(decoded, stop + 1 - first, grid.cols + 1), p, first)
        if tiling != "plain":
            features = _append_rows(last_row, features, grid.cols + 1)
            maps = [collage(z, stop - start, grid.cols) for z in features]
            decoded = unet.decode(maps, t, place.shifted(start, stop), cond)
            shifted[:, :, start * p : stop * p] = merge(decoded, stop - start, grid.cols)
            last_row = [_last_row(z, len(x_t), grid.cols + 1) for z in features]
    if tiling != "blend":
        return plain if tiling == "plain" else shifted
    weight = blend_weight(grid, x_t.device).to(x_t.dtype)
    return weight * shifted + (1 - weight) * plain


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


class _Places:
    """Positions of the patches of a band of rows, or None where they are dropped."""

    def __init__(self, grid: PatchGrid, known: bool, device: torch.device) -> None:
        self.known = known
        self.plain = positions(grid.rows, grid.cols, shifted=False, device=device)
        self.half = positions(grid.rows, grid.cols, shifted=True, device=device)
        self.cols = grid.cols

    def padded(self, first: int, end: int) -> Tensor | None:
        cols = self.cols + 1
        return self.plain[first * cols : end * cols] if self.known else None

    def shifted(self, first: int, end: int) -> Tensor | None:
        return self.half[first * self.cols : end * self.cols] if self.known else None


def _padded_rows(x_t: Tensor, p: int, first: int, end: int) -> Tensor:
    """Cut padded patch rows first..end-1 out of the canvas, padding what lies outside."""
    height = x_t.shape[-2]
    top, bottom = first * p - p // 2, end * p - p // 2
    rows = x_t[:, :, max(top, 0) : min(bottom, height)]
    half = p // 2
    return split(F.pad(rows, (half, half, max(-top, 0), max(bottom - height, 0))), p)


def _put_padded_rows(canvas: Tensor, rows: Tensor, p: int, first: int) -> None:
    """Write padded patch rows back onto the canvas, cutting the padding off."""
    top = first * p - p // 2
    start, stop = max(top, 0), min(top + rows.shape[-2], canvas.shape[-2])
    canvas[:, :, start:stop] = rows[:, :, start - top : stop - top, p // 2 : -p // 2]


def _append_rows(before: list[Tensor], features: list[Tensor], cols: int) -> list[Tensor]:
    """Put the row of features kept from the band above before those of this band."""
    if not before:
        return features
    batch = len(before[0]) // cols
    return [
        torch.cat(
            [a.reshape(batch, -1, *a.shape[1:]), b.reshape(batch, -1, *b.shape[1:])], dim=1
        ).flatten(0, 1)
        for a, b in zip(before, features, strict=True)
    ]


def _last_row(feature: Tensor, batch: int, cols: int) -> Tensor:
    return feature.reshape(batch, -1, *feature.shape[1:])[:, -cols:].flatten(0, 1)
