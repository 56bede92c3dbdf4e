"""Patch geometry: the grid padded by half a patch, and the collage of its features.

An image of rows x cols patches of side p lies on a canvas padded by p/2 on every side, which
splits into (rows + 1) x (cols + 1) *padded* patches. The *shifted* patches, half a patch down
and right of them, tile the image itself exactly. Patches are stacked image by image in reading
order: index = (image * grid_rows + row) * grid_cols + col.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class PatchGrid:
    """The grid of an image: `rows` x `cols` patches of side `patch_size`."""

    rows: int
    cols: int
    patch_size: int

    @classmethod
    def of(cls, height: int, width: int, patch_size: int) -> PatchGrid:
        """Return the grid of a height x width image.

        Raises:
            ValueError: a side is not a positive multiple of the patch size.
        """
        for name, side in (("height", height), ("width", width)):
            if side <= 0 or side % patch_size:
                raise ValueError(
                    f"{name} is {side}, expected multiples of the patch size {patch_size}"
                )
        return cls(height // patch_size, width // patch_size, patch_size)


def pad_and_split(x: Tensor, p: int) -> Tensor:
    """Zero-pad by p/2 and cut into patches: (B, ch, R*p, C*p) -> (B*(R+1)*(C+1), ch, p, p).

    Raises:
        ValueError: a side is not a positive multiple of p, or p is odd.
    """
    if p % 2:
        raise ValueError(f"patch size is {p}, expected even sizes")
    PatchGrid.of(x.shape[-2], x.shape[-1], p)
    return split(F.pad(x, (p // 2,) * 4), p)


def split(x: Tensor, p: int) -> Tensor:
    """Cut an image into patches: (B, ch, R*p, C*p) -> (B*R*C, ch, p, p).

    Raises:
        ValueError: a side is not a positive multiple of p.
    """
    grid = PatchGrid.of(x.shape[-2], x.shape[-1], p)
    batch, channels = x.shape[:2]
    tiles = x.reshape(batch, channels, grid.rows, p, grid.cols, p)
    return tiles.permute(0, 2, 4, 1, 3, 5).reshape(-1, channels, p, p)


def merge(patches: Tensor, rows: int, cols: int) -> Tensor:
    """Join patches to images: (B*rows*cols, ch, h, w) -> (B, ch, rows*h, cols*w).

    The inverse of `split`.

    Raises:
        ValueError: the number of patches is not a multiple of rows * cols.
    """
    _check_count(patches, rows, cols)
    _, channels, height, width = patches.shape
    tiles = patches.reshape(-1, rows, cols, channels, height, width)
    return tiles.permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, rows * height, cols * width)


def collage(features: Tensor, rows: int, cols: int) -> Tensor:
    """Feature collage P1..P4 (paper section 3): quarters of four neighbours form a shifted patch.

    The same as to merge the maps of all padded patches, cut off half a patch on every side, and
    split the rest; no arithmetic, so any map of even side can be collaged.

    Args:
        features: (B*(rows+1)*(cols+1), ch, s, s), maps of the padded patches.
        rows, cols: patches of the image itself.

    Returns:
        (B*rows*cols, ch, s, s), maps of the shifted patches, channels last if features are.

    Raises:
        ValueError: the number of maps does not fit the grid, or s is odd.
    """
    side = features.shape[-1]
    if side % 2:
        raise ValueError(f"feature maps have side {side}, expected even sides")
    _check_count(features, rows + 1, cols + 1)
    grid = features.unflatten(0, (-1, rows + 1, cols + 1))
    shifted = collage_rows(grid[:, :-1], grid[:, 1:])
    if features.is_contiguous(memory_format=torch.channels_last):
        return shifted
    return shifted.contiguous()


def collage_rows(above: Tensor, below: Tensor) -> Tensor:
    """Collage each row of padded patches with the row below it.

    Args:
        above, below: (B, rows, cols+1, ch, s, s), maps of the padded patches.

    Returns:
        (B*rows*cols, ch, s, s), channels last, so that only two concatenations copy.
    """
    above, below = above.movedim(3, -1), below.movedim(3, -1)  # (B, rows, cols+1, s, s, ch)
    half = above.shape[-2] // 2
    top = torch.cat([above[:, :, :-1, half:, half:], above[:, :, 1:, half:, :half]], dim=-2)
    bottom = torch.cat([below[:, :, :-1, :half, half:], below[:, :, 1:, :half, :half]], dim=-2)
    return torch.cat([top, bottom], dim=-3).flatten(0, 2).movedim(-1, 1)


def positions(rows: int, cols: int, *, shifted: bool, device: torch.device | str = "cpu") -> Tensor:
    """Return the (row, col) position of every patch in reading order, as (patches, 2) float.

    Padded patches are at integers 0..rows x 0..cols, shifted ones half way between.
    """
    offset, extra = (0.5, 0) if shifted else (0.0, 1)
    row = torch.arange(rows + extra, device=device, dtype=torch.float32) + offset
    col = torch.arange(cols + extra, device=device, dtype=torch.float32) + offset
    return torch.cartesian_prod(row, col)


def _check_count(patches: Tensor, rows: int, cols: int) -> None:
    if patches.shape[0] % (rows * cols):
        raise ValueError(
            f"found {patches.shape[0]} patches, expected multiples of rows * cols = {rows} * {cols}"
        )
