"""A look at a folder of photographs before a run: how many, how large, damaged, alike."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from patchdm.config import Data
from patchdm.errors import PatchDMError
from patchdm.extract.duplicates import Thumbnails, alike, groups_of, thumbnail
from patchdm.fetch.arrival import check_file
from patchdm.fetch.names import PassedOver
from patchdm.fetch.sources import count
from patchdm.formats.images import read_views
from patchdm.parallel import in_order

MOST = 1000
"""Photographs that are decoded; of more, so many at equal distances."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What is in a folder."""

    photographs: int
    looked_at: int  # of them, decoded
    damaged: list[str]  # why each of those cannot be used
    suffixes: dict[str, int]  # of the good ones, the most frequent first
    sizes: list[tuple[int, int]]  # of the good ones
    alike: int  # that look like another one
    rate: float  # decoded in a second

    @property
    def usable(self) -> int:
        """Photographs that can be read, estimated from those looked at."""
        return round(self.photographs * (1 - self.share_damaged))

    @property
    def share_damaged(self) -> float:
        """Share of the photographs that cannot be used."""
        return len(self.damaged) / self.looked_at

    def lines(self, width: int, height: int) -> list[str]:
        """Say it, for training images of a size."""
        kinds = ", ".join(f"{number} {suffix}" for suffix, number in self.suffixes.items())
        of = f" ({self.looked_at:,} looked at)" if self.looked_at < self.photographs else ""
        text = [f"{self.photographs:,} photographs{of}: {kinds or 'none that can be read'}"]
        if self.damaged:
            text.append(f"{len(self.damaged)} cannot be read, the first: {self.damaged[0]}")
        if not self.sizes:
            return text
        middle = "x".join(str(round(median(side))) for side in zip(*self.sizes, strict=True))
        small = sum(w < width or h < height for w, h in self.sizes)
        text.append(
            f"median size {middle}"
            + (f", {small} smaller than {width}x{height}, which are enlarged" if small else "")
        )
        if self.alike:
            text.append(f"{self.alike} look like another one; groups stay on one side of the split")
        return text


class _Seen(NamedTuple):
    """A photograph that was decoded, or why it was not."""

    size: tuple[int, int]
    thumbnail: Thumbnails | None
    damage: str


def look(data: Data, workers: int, on_start: Callable[[int], Callable[[int], None]]) -> Found:
    """Look at the photographs of a folder.

    Args:
        data: section data, of source `folder`.
        workers: processes that decode.
        on_start: told how many are decoded; returns what is told how many are done.

    Raises:
        PatchDMError: it is no folder, or has no photograph.
    """
    total = count(data)
    paths = _photographs(Path(data.location))
    places = np.linspace(0, len(paths) - 1, min(MOST, len(paths))).round().astype(int)
    chosen = [paths[place] for place in places]
    show, start = on_start(len(chosen)), time.perf_counter()
    seen = list[_Seen]()
    for one in in_order(partial(_look_at, (data.width, data.height)), chosen, workers):
        seen.append(one)
        show(len(seen))
    seconds = time.perf_counter() - start
    good = [(path, one) for path, one in zip(chosen, seen, strict=True) if not one.damage]
    thumbnails = [one.thumbnail for _, one in good if one.thumbnail is not None]
    return Found(
        photographs=total,
        looked_at=len(seen),
        damaged=[one.damage for one in seen if one.damage],
        suffixes=dict(Counter(path.suffix.lower() for path, _ in good).most_common()),
        sizes=[one.size for _, one in good],
        alike=_alike(np.stack(thumbnails)) if thumbnails else 0,
        rate=len(seen) / max(seconds, 1e-3),
    )


def _photographs(folder: Path) -> list[Path]:
    """Return the photographs below a folder, each folder once, in the order of their names."""
    taken, passed_over, entered = list[Path](), PassedOver(), set[Path]()
    for top, names, files in os.walk(folder, followlinks=True):
        if (real := Path(top).resolve()) in entered:
            names.clear()
            continue
        entered.add(real)
        paths = (Path(top, name) for name in files)
        taken += [path for path in paths if passed_over.takes(path.relative_to(folder).as_posix())]
    if not taken:
        raise PatchDMError(f"{folder}: found no image, {passed_over}")
    return sorted(taken)


def _look_at(size: tuple[int, int], path: Path) -> _Seen:
    """Check and decode a photograph, as the stages do."""
    try:
        check_file(path, str(path), None)
        (image,), original = read_views(path, *size)
    except (PatchDMError, OSError) as error:
        return _Seen((0, 0), None, str(error))
    return _Seen(original, thumbnail(image), "")


def _alike(thumbnails: Thumbnails) -> int:
    """Return how many photographs look like one before."""
    pairs = alike(thumbnails)
    group = groups_of(len(thumbnails), pairs["like"].to_numpy(), pairs["place"].to_numpy())
    return len(group) - len(np.unique(group))
