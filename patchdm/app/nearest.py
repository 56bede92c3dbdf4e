"""Which photographs of the training an image is nearest to: memorisation at a glance."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from patchdm.app.photographs import Images, Small, spread
from patchdm.formats.images import Pixels, fit
from patchdm.memory import return_freed_memory
from patchdm.metrics.distances import distance_blocks
from patchdm.metrics.neighbours import thumbnails

COUNT = 6
"""Photographs that are shown."""
PICTURE_SIDE = 384
MOST_WINDOWS = 32
JUDGED = 128
"""Photographs whose nearest others say what is usual."""


@dataclass(frozen=True)
class Neighbour:
    """A photograph near to an image; its file name, and a picture as a data: URL."""

    name: str
    distance: float
    picture: str


@dataclass(frozen=True)
class Found:
    """What an image is near to.

    Attributes:
        photographs: the nearest ones.
        usual: median distance of a photograph to the nearest other one; None: there is one alone.
        compared, total: number of photographs compared, and of all.
        images: that were compared: photographs, their parts and mirror images.
        given: whether the user named the photographs, of which the model may not know all.
    """

    photographs: list[Neighbour]
    usual: float | None
    compared: int
    total: int
    images: int
    given: bool


class Finder:
    """Finds training images by the pixels of thumbnails, which it keeps from its first use on.

    Args:
        images: those of the training.
        size: their height and width.

    Distances are root mean squares over pixels and channels, in levels of 0 to 255.
    """

    def __init__(self, images: Images, size: tuple[int, int]) -> None:
        self._images, self._size = images, size
        self._small: Small | None = None
        self._usual: float | None = None

    def near(self, image: Pixels) -> Found:
        """Return the photographs nearest to an image (H, W, 3), one call at a time.

        Of an image wider or higher than those of the training, each part of their proportions is
        compared.

        Raises:
            PatchDMError: photographs cannot be read.
        """
        if self._small is None:
            self._small = self._images.small()
            self._usual = usual(self._small)
            return_freed_memory()
        small = self._small
        height, width = self._size
        parts = thumbnails(
            np.stack([fit(part, width, height) for part in windows(image, *self._size)])
        )
        nearest = np.full(len(small.thumbnails), np.inf)
        for _, distances in distance_blocks(_flat(parts), _flat(small.thumbnails)):
            nearest = np.minimum(nearest, distances.numpy().min(axis=0))
        chosen = first_of_each(small.photographs, nearest)
        found = [self._neighbour(small, number, parts) for number in chosen]
        found.sort(key=lambda neighbour: neighbour.distance)
        counts = len(small.names), small.total, len(small.thumbnails)
        return Found(found, self._usual, *counts, self._images.given)

    def _neighbour(self, small: Small, number: int, parts: Pixels) -> Neighbour:
        there = _flat(small.thumbnails[[number]]).astype(float)
        exact = np.sqrt(((_flat(parts) - there) ** 2).mean(axis=1)).min()  # blocks are rounded
        name = PurePosixPath(small.names[small.photographs[number]]).name
        return Neighbour(name, float(exact), jpeg(self._images.picture(number)))


def usual(small: Small) -> float | None:
    """Return the median distance of a photograph to the nearest other one."""
    if len(small.names) < 2:
        return None
    _, firsts = np.unique(small.photographs, return_index=True)
    rows, flat = spread(firsts, JUDGED), _flat(small.thumbnails)
    nearest = []
    for block, distances in distance_blocks(flat[rows], flat):
        own = small.photographs[rows[block]][:, None] == small.photographs[None]
        nearest.append(np.where(own, np.inf, distances.numpy()).min(axis=1))
    return float(np.median(np.concatenate(nearest)) / math.sqrt(flat.shape[1]))


def first_of_each(photographs: NDArray[np.int64], distances: NDArray[np.float64]) -> list[int]:
    """Return the nearest image of each photograph, of the `COUNT` nearest photographs."""
    found: dict[int, int] = {}
    for number in np.argsort(distances, kind="stable").tolist():
        found.setdefault(int(photographs[number]), number)
        if len(found) == COUNT:
            break
    return list(found.values())


def windows(image: Pixels, height: int, width: int) -> list[Pixels]:
    """Return parts of an image with the proportions of height and width, that cover all of it."""
    h, w = image.shape[:2]
    side, length = (h * width / height, w) if w * height >= h * width else (w * height / width, h)
    spare = length - side
    count = min(MOST_WINDOWS, 1 + math.ceil(spare / (side / 2) - 1e-9))
    starts = [round(spare * n / max(count - 1, 1)) for n in range(count)]
    size = max(1, round(side))
    if length == w:
        return [image[:, start : start + size] for start in starts]
    return [image[start : start + size] for start in starts]


def jpeg(image: Pixels) -> str:
    """Return an image as a data: URL of a small JPEG."""
    picture = Image.fromarray(image)
    picture.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _flat(images: Pixels) -> Pixels:
    return images.reshape(len(images), -1)
