"""Seams: are the steps across patch borders larger than those inside patches?

`border_scores` looks at each border by itself, next to real images. `score_of_maps` is the older
mean over the borders of one grid, against a mean that holds the borders of the other one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

REACH = 3
"""Pixels to each side of a border in which the steps beside it are looked at."""


class StepMaps:
    """Absolute steps between neighbouring pixels at each place, summed over images and colours."""

    def __init__(self, height: int, width: int) -> None:
        self.count = 0  # images so far
        self.across = np.zeros((height, width - 1), np.int64)
        self.down = np.zeros((height - 1, width), np.int64)

    def add(self, images: np.ndarray) -> None:
        """Take in one batch, (n, H, W, 3) uint8."""
        for image in images:
            levels = image.astype(np.int16)
            self.across += np.abs(np.diff(levels, axis=1)).sum(axis=2)
            self.down += np.abs(np.diff(levels, axis=0)).sum(axis=2)
        self.count += len(images)

    def means(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean steps, see `step_maps`."""
        return self.across / (3 * self.count), self.down / (3 * self.count)


class Border(NamedTuple):
    """A line through the image between patches of the "shifted" or of the "padded" grid.

    It lies between the pixels `place` - 1 and `place` of columns (axis "x") or rows ("y").
    """

    grid: str
    axis: str
    place: int


def step_maps(batches: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean absolute step between neighbouring pixels, at each place in the image.

    Of batches (n, H, W, 3) uint8 of one size: (H, W-1) step from column x to x+1 and (H-1, W) step
    from row y to y+1, float64 in grey levels, averaged over images and colours.

    Raises:
        ValueError: there is no image.
    """
    maps = None
    for batch in batches:
        maps = maps or StepMaps(*batch.shape[1:3])
        maps.add(batch)
    if maps is None or not maps.count:
        raise ValueError("found no image, at least one is needed")
    return maps.means()


def border_scores(
    images: tuple[np.ndarray, np.ndarray],
    real: tuple[np.ndarray, np.ndarray] | None,
    patch_size: int,
) -> dict[Border, float]:
    """Return how much larger steps across each border are than beside it, next to real images.

    The mean step across a border, over the mean of those 1 to 3 pixels from it (`REACH`) that are
    no borders themselves, is divided by the same ratio of real images, which have more detail
    at some places than at others. 1.0 means no seam, less that a border is smoothed over.

    Args:
        images, real: from `step_maps`, of images of one size. Without real ones their steps count
            as equal everywhere.
        patch_size: p, even and at least 4. The borders of the shifted patches, which tile the
            image, lie at its multiples, those of the padded ones half a patch further.
    """
    half, scores = patch_size // 2, {}
    real = real or (np.ones_like(images[0]), np.ones_like(images[1]))
    for axis, steps, of_real in zip("xy", _profiles(*images), _profiles(*real), strict=True):
        for place in range(half, len(steps) + 1, half):
            near = range(max(place - REACH, 1), min(place + REACH, len(steps)) + 1)
            beside = [other - 1 for other in near if other % half]
            own, expected = (
                _ratio(profile[place - 1], profile[beside].mean()) for profile in (steps, of_real)
            )
            grid = "padded" if place // half % 2 else "shifted"
            scores[Border(grid, axis, place)] = _ratio(own, expected)
    return scores


def worst(scores: Mapping[Border, float]) -> Border:
    """Return the border whose score is farthest from 1, by its ratio: 0.5 is as far as 2."""
    return max(scores, key=lambda border: max(scores[border], _ratio(1.0, scores[border])))


class Seam(NamedTuple):
    """A border of one image, its score, and the middle (y, x) of the patch side that shows it."""

    score: float
    image: int
    border: Border
    middle: tuple[int, int]


def worst_seams(images: Iterable[np.ndarray], patch_size: int, most: int) -> list[Seam]:
    """Return the borders of single images (H, W, 3) whose steps stand out most, the worst first.

    Each is scored by itself, see `border_scores`; what is no seam but lies along a border, such as
    a horizon, counts too.
    """
    found = []
    for number, image in enumerate(images):
        maps = step_maps([image[None]])
        for border, score in border_scores(maps, None, patch_size).items():
            across, place = border.axis == "x", border.place
            steps = maps[0][:, place - 1] if across else maps[1][place - 1]
            along = patch_size * _largest_part(steps, patch_size) + patch_size // 2
            middle = (along, place) if across else (place, along)
            found.append(Seam(score, number, border, middle))
    return sorted(found, key=lambda seam: -seam.score)[:most]


def _largest_part(steps: np.ndarray, length: int) -> int:
    """Return which part of that length has the largest steps."""
    starts = np.arange(0, len(steps), length)
    return int((np.add.reduceat(steps, starts) / np.diff([*starts, len(steps)])).argmax())


def score_of_maps(across: np.ndarray, down: np.ndarray, patch_size: int, offset: int = 0) -> float:
    """Return the mean step across patch borders over the mean step inside patches: the seam score.

    1.0 means no seam. Every step weighs the same, vertical borders and horizontal ones alike;
    images without any step score 1.0.

    Args:
        across, down: from `step_maps`.
        patch_size: the distance of borders.
        offset: of the borders from its multiples inside the image. The shifted patches, which tile
            the image, have theirs at multiples; the padded ones half a patch further.

    Raises:
        ValueError: there is no border in the images.
    """
    columns, rows = _profiles(across, down)
    height, width = len(rows) + 1, len(columns) + 1
    steps = np.concatenate([columns, rows])
    weights = np.concatenate([np.full(width - 1, height), np.full(height - 1, width)])
    at_border = np.concatenate(
        [np.arange(1, side) % patch_size == offset % patch_size for side in (width, height)]
    )
    if not at_border.any() or at_border.all():
        raise ValueError(
            f"patch size is {patch_size}, expected 2 to {max(height, width) - 1} pixels"
        )
    border = np.average(steps[at_border], weights=weights[at_border])
    interior = np.average(steps[~at_border], weights=weights[~at_border])
    return _ratio(border, interior)


def _profiles(across: np.ndarray, down: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean steps from column to column (W-1,) and from row to row (H-1,)."""
    return across.mean(axis=0), down.mean(axis=1)


def _ratio(step: float, other: float) -> float:
    """Divide steps; equal ones give 1, two without any step, too."""
    if step == other:
        return 1.0
    return float(step / other) if other else float("inf")
