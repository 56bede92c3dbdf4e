"""The canvas denoiser: what the solver sees as one network on one large image.

The canvas is worked through in bands of patch rows. The collage of patch row r needs the
features of padded rows r and r + 1 alone, so a band keeps only its last row of features for
the next; every padded row is encoded once.
"""

from __future__ import annotations

import itertools
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from patchdm.diffusion.guidance import guided
from patchdm.grid import PatchGrid, collage, merge, positions, split
from patchdm.models.unet import PatchUNet

Tiling = Literal["shifted", "blend"] | tuple[int, int]
"""The patches that predict a canvas: the shifted ones by feature collage (the paper), these
blended with the plain padded ones, or patches on their own from (y, x) on; see `predict_eps`."""

PLAIN = (0, 0)
"""The padded patches on their own."""


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
        tiling: "shifted": the collaged patches. "blend": collaged and padded patches, each
            counting least at its own borders. (y, x), from -p/2 + 1 to p/2: no collage; a grid of
            patches cut from the padded canvas, the first one there. Patches that reach out of the
            padded canvas are moved onto it.

    Returns:
        (B, C, H, W), like x_t.

    Raises:
        ValueError: a side of x_t or rows_per_chunk does not fit.
    """
    height, width = x_t.shape[-2:]
    grid = PatchGrid.of(height, width, unet.config.patch_size)
    band = grid.rows + 1 if rows_per_chunk is None else rows_per_chunk
    if band < 1:
        raise ValueError(f"rows_per_chunk is {rows_per_chunk}, allowed are 1 and more")

    def predict(cond: Tensor | None, known_place: bool) -> Tensor:
        if isinstance(tiling, tuple):
            return _alone(unet, x_t, t, cond, tiling, band, known_place)
        blend = tiling == "blend"
        return _collaged(unet, x_t, t, cond, grid, band, known_place, blend=blend)

    return guided(predict, cond, guidance_scale)


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
    unet: PatchUNet,
    x_t: Tensor,
    t: Tensor,
    cond: Tensor | None,
    grid: PatchGrid,
    band: int,
    known_place: bool,
    *,
    blend: bool,
) -> Tensor:
    """Predict the shifted patches by feature collage, a band of rows at a time.

    To blend, the features are also decoded as they are, to the padded patches.
    """
    p, rows, cols = grid.patch_size, grid.rows, grid.cols
    padded, shifted = (positions(rows, cols, shifted=s, device=x_t.device) for s in (False, True))
    eps = torch.empty_like(x_t)
    plain = F.pad(eps, (p // 2,) * 4) if blend else None
    last_row: list[Tensor] = []
    for start in range(0, rows, band):
        stop = min(start + band, rows)
        first = start + 1 if start else 0  # padded rows first..stop are new to this band
        place = padded[first * (cols + 1) : (stop + 1) * (cols + 1)] if known_place else None
        new = unet.encode(_padded_rows(x_t, p, first, stop + 1), t, place, cond)
        if plain is not None:
            decoded = unet.decode(new, t, place, cond)
            plain[:, :, first * p : (stop + 1) * p] = merge(decoded, stop + 1 - first, cols + 1)
        features = _append_rows(last_row, new, cols + 1)
        last_row = [_last_row(z, len(x_t), cols + 1) for z in features]
        maps = [collage(z, stop - start, cols) for z in features]
        place = shifted[start * cols : stop * cols] if known_place else None
        decoded = unet.decode(maps, t, place, cond)
        eps[:, :, start * p : stop * p] = merge(decoded, stop - start, cols)
    if plain is None:
        return eps
    weight = blend_weight(grid, x_t.device).to(x_t.dtype)
    return weight * eps + (1 - weight) * plain[..., p // 2 : -p // 2, p // 2 : -p // 2]


def _alone(
    unet: PatchUNet,
    x_t: Tensor,
    t: Tensor,
    cond: Tensor | None,
    offset: tuple[int, int],
    band: int,
    known_place: bool,
) -> Tensor:
    """Predict patches of the padded canvas on their own; where two overlap, the later counts."""
    p = unet.config.patch_size
    canvas = F.pad(x_t, (p // 2,) * 4)
    eps = torch.empty_like(canvas)
    tops, lefts = (
        [min(max(start, 0), side) for start in range(first, side + p // 2, p)]
        for first, side in zip(offset, x_t.shape[-2:], strict=True)
    )
    for start in range(0, len(tops), band):
        corners = list(itertools.product(tops[start : start + band], lefts))
        patches = torch.stack([canvas[..., y : y + p, x : x + p] for y, x in corners], dim=1)
        place = torch.tensor(corners, device=x_t.device) / p if known_place else None
        features = unet.encode(patches.flatten(0, 1), t, place, cond)
        decoded = unet.decode(features, t, place, cond).reshape(patches.shape)
        for (y, x), patch in zip(corners, decoded.unbind(dim=1), strict=True):
            eps[..., y : y + p, x : x + p] = patch
    return eps[..., p // 2 : -p // 2, p // 2 : -p // 2]


def _padded_rows(x_t: Tensor, p: int, first: int, end: int) -> Tensor:
    """Cut padded patch rows first..end-1 out of the canvas, padding what lies outside."""
    height = x_t.shape[-2]
    top, bottom = first * p - p // 2, end * p - p // 2
    rows = x_t[:, :, max(top, 0) : min(bottom, height)]
    half = p // 2
    return split(F.pad(rows, (half, half, max(-top, 0), max(bottom - height, 0))), p)


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
