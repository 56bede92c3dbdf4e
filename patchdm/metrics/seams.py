"""Seams: are the steps across patch borders larger than those inside patches?"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F


def step_maps(batches: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean absolute step between neighbouring pixels, at each place in the image.

    Args:
        batches: arrays (n, H, W, 3) uint8 of one size.

    Returns:
        (H, W-1) step from column x to x+1 and (H-1, W) step from row y to y+1, float64 in grey
        levels, averaged over images and colours.

    Raises:
        ValueError: there is no image.
    """
    across, down, count = 0.0, 0.0, 0
    for image in (image for batch in batches for image in batch):
        levels = image.astype(np.int16)
        across = across + np.abs(np.diff(levels, axis=1)).mean(axis=2)
        down = down + np.abs(np.diff(levels, axis=0)).mean(axis=2)
        count += 1
    if not count:
        raise ValueError("found no image, at least one is needed")
    return np.asarray(across) / count, np.asarray(down) / count


def border_profile(batches: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean absolute step by column and by row: `step_maps` without the other axis.

    Args:
        batches: arrays (n, H, W, 3) uint8 of one size.

    Returns:
        (W-1,) step from column x to x+1 and (H-1,) step from row y to y+1, float64 in grey
        levels.

    Raises:
        ValueError: there is no image.
    """
    across, down = step_maps(batches)
    return across.mean(axis=0), down.mean(axis=1)


def seam_score(batches: Iterable[np.ndarray], patch_size: int, offset: int = 0) -> float:
    """Return the mean step across patch borders over the mean step inside patches.

    1.0 means no seam. Every step weighs the same, vertical borders and horizontal ones alike;
    two images without any step score 1.0.

    Args:
        batches: arrays (n, H, W, 3) uint8 of one size.
        patch_size: the distance of borders.
        offset: of the borders from its multiples inside the image. The shifted patches, which tile
            the image, have theirs at multiples; the padded ones half a patch further.

    Raises:
        ValueError: there is no image, or no border in it.
    """
    columns, rows = border_profile(batches)
    height, width = len(rows) + 1, len(columns) + 1
    steps = np.concatenate([columns, rows])
    weights = np.concatenate([np.full(width - 1, height), np.full(height - 1, width)])
    at_border = np.concatenate(
        [np.arange(1, side) % patch_size == offset % patch_size for side in (width, height)]
    )
    if not at_border.any() or at_border.all():
        raise ValueError(
            f"patch size is {patch_size}, allowed are 2 to {max(height, width) - 1} pixels"
        )
    border = np.average(steps[at_border], weights=weights[at_border])
    interior = np.average(steps[~at_border], weights=weights[~at_border])
    if border == interior == 0:
        return 1.0
    return float(border / interior) if interior else float("inf")


def blur8(images: np.ndarray) -> np.ndarray:
    """Shrink images 8 times (area means) and enlarge them again (bilinear).

    The reference point of FID: all palettes and layouts right, no detail.

    Args:
        images: (n, H, W, 3) uint8.
    """
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    height, width = x.shape[-2:]
    small = F.interpolate(x, size=(max(height // 8, 1), max(width // 8, 1)), mode="area")
    large = F.interpolate(small, size=(height, width), mode="bilinear")
    return large.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
