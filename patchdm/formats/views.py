"""Views of a photograph: the whole of it, parts, and its mirror image, each a training image."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple


class View(NamedTuple):
    """What an image shows of its photograph."""

    scale: float = 1.0
    """Of its sides, in those of the largest part that has the image's proportions, (0, 1]."""
    x: float = 0.5
    """Where it lies: 0 at the photograph's left edge, 1 at the right one."""
    y: float = 0.5
    """0 at the upper edge, 1 at the lower one."""
    mirrored: bool = False

    def box(
        self, photograph: tuple[int, int], image: tuple[int, int]
    ) -> tuple[float, float, float, float]:
        """Return left, top, right and bottom in a photograph, by its and the image's (w, h)."""
        proportion = image[0] / image[1]
        width = self.scale * min(photograph[0], proportion * photograph[1])
        height = self.scale * min(photograph[1], photograph[0] / proportion)
        left, top = (photograph[0] - width) * self.x, (photograph[1] - height) * self.y
        right, bottom = min(left + width, photograph[0]), min(top + height, photograph[1])
        return left, top, right, bottom  # which rounding would else put outside


def view_of(sha256: str, number: int, views: int, scales: Sequence[float]) -> View:
    """Return a view of a photograph; it depends on nothing else.

    Args:
        sha256: of the photograph's file.
        number: 0: the whole; 1 to views - 1: a part somewhere in it, mirrored by chance; `views`:
            the whole, mirrored.
        views: how many there are, without the mirrored whole.
        scales: smallest and largest scale of a part.
    """
    if number in (0, views):
        return View(mirrored=number > 0)
    digest = hashlib.sha256(f"{sha256} {number}".encode()).digest()
    size, x, y = (int.from_bytes(digest[at : at + 8]) / 2**64 for at in (0, 8, 16))
    least, most = scales
    return View(least + size * (most - least), x, y, mirrored=bool(digest[24] % 2))
