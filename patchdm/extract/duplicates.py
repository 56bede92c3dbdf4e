"""Photographs that look alike: copies saved again, resized, mirrored, or cropped a little.

Two photographs are compared by their grey thumbnails of 8 x 8. The correlation of their gradients
is not enough: two plain horizons agree by chance, two busy streets do not. So the correlation is
weighted by the number of independent details that the plainer of the two has (`evidence`), and
the required evidence grows with the number of photographs, since chance agreement does.

Millions of photographs are not compared all with all: only those that agree in 24 signs of their
low frequencies, except for the few least certain signs (`_Table`), and in large sets that agree
only near neighbours. Memory is some 250 bytes per photograph; time grows with their number.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from patchdm.formats.images import Pixels

SIDE = 8
"""Pixels of a thumbnail in each direction."""
LEAST_EVIDENCE = 10.0
"""Lower bound of the required evidence; docs/data.md shows which copies it finds."""

_KEY_BITS, _WEAK = 24, 4
_NEXT = 16
"""An entry is compared with at most so many next ones of the same key."""
_CODE_DISTANCE = 20
"""Photographs are compared exactly if at most so many signs differ."""
_ENTRIES = 2**23
"""Bounds the entries of a table in memory."""
_PAIRS = 2**14
"""Pairs that are compared exactly in one go."""

Thumbnails = NDArray[np.uint16]
Indices = NDArray[np.int64]
Codes = NDArray[np.uint64]


def thumbnail(image: Pixels) -> Thumbnails:
    """Return the grey 8 x 8 thumbnail of an image, in 1/256 of a level."""
    grey = _grey(image).convert("F").resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.rint(np.asarray(grey) * 256).astype(np.uint16)


def difference_hash(image: Pixels) -> int:
    """Return 64 bits: which pixels of the image's 9 x 8 grey thumbnail are darker than the next.

    Scale, compression, brightness and contrast hardly change it.
    """
    levels = np.asarray(_grey(image).resize((9, 8), Image.Resampling.BOX)).astype(np.int16)
    return int.from_bytes(np.packbits(levels[:, 1:] > levels[:, :-1]).tobytes())


def needed_evidence(photographs: int) -> float:
    """Return the `evidence` with which two of so many photographs count as alike.

    Ten times as many photographs have ten times as many neighbours that agree by chance; evidence
    higher by 2 ln 10 is ten times as rare.
    """
    return max(LEAST_EVIDENCE, 2 * math.log(max(photographs, 1)) - 6)


def evidence(a: Thumbnails, b: Thumbnails) -> NDArray[np.float64]:
    """Return the evidence that the two thumbnails of each pair show one photograph.

    The gradients of unrelated thumbnails correlate by r or more with a probability of about
    (1 - r^2)^(d/2), where d counts independent details; the evidence is -d ln(1 - r^2). d is the
    smaller participation ratio, (sum e)^2 / sum e^2, of the gradients' energy e by place and by
    frequency, of the plainer thumbnail.

    Args:
        a, b: (m, 8, 8).

    Returns:
        (m,), 0 where they do not agree, infinite where they are equal.
    """
    x, y = _gradients(a), _gradients(b)
    energy = np.maximum((x * x).sum(1) * (y * y).sum(1), 1e-9)
    r = np.maximum((x * y).sum(1), 0) / np.sqrt(energy)
    with np.errstate(divide="ignore"):
        found = -np.minimum(_details(a, x), _details(b, y)) * np.log(np.maximum(1 - r * r, 0))
    return np.where((a == b).all((1, 2)), np.inf, found)


def alike(thumbnails: Thumbnails) -> pd.DataFrame:
    """Find the photographs that look alike: the fewest pairs that link each group.

    Args:
        thumbnails: (n, 8, 8) from `thumbnail`; read in pieces.

    Returns:
        One row per pair: `place`, `like` (places in `thumbnails`, the first is the larger),
        `mirrored` (bool), `evidence`; by place.
    """
    needed = needed_evidence(len(thumbnails))
    root = np.arange(len(thumbnails))
    links: list[tuple[int, int, int, float]] = []
    for order in _ORDERS:
        for a, b in _Table(thumbnails, order).candidates(root):
            # Entries are photograph * 2 + mirrored.
            first, other = np.minimum(a >> 1, b >> 1), np.maximum(a >> 1, b >> 1)
            mirrored = (a ^ b) & 1
            two = thumbnails[other]
            two = np.where(mirrored[:, None, None], two[:, :, ::-1], two)
            found = evidence(thumbnails[first], two)
            enough = found >= needed
            columns = (column[enough].tolist() for column in (other, first, mirrored, found))
            links += [link for link in zip(*columns, strict=True) if _link(root, *link[:2])]
    pairs = pd.DataFrame(sorted(links), columns=["place", "like", "mirrored", "evidence"])
    return pairs.astype({"place": np.int64, "like": np.int64, "mirrored": bool, "evidence": float})


def groups_of(count: int, first: Indices, other: Indices) -> Indices:
    """Return for each of `count` photographs the first one of its group, given linked pairs."""
    root = np.arange(count)
    for pair in zip(first.tolist(), other.tolist(), strict=True):
        _link(root, *pair)
    return _find(root, np.arange(count))


def _cosines() -> NDArray[np.float64]:
    k = np.arange(SIDE)
    rows = np.cos(np.pi * np.outer(k, 2 * k + 1) / (2 * SIDE)) * math.sqrt(2 / SIDE)
    rows[0] /= math.sqrt(2)
    return rows


_DCT = _cosines()
_GAIN = 2 * np.sin(np.pi * np.arange(SIDE) / (2 * SIDE))
_WEIGHT = np.hypot(_GAIN, _GAIN[:, None])
"""The contribution of a cosine of each frequency to the gradients."""
_ROWS, _COLS = np.divmod(np.arange(1, SIDE * SIDE), SIDE)
_LOW_FIRST = np.lexsort((_COLS, _ROWS**2 + _COLS**2))
_ORDERS = [
    np.concatenate([_LOW_FIRST[start:48:2], _LOW_FIRST[1 - start : 48 : 2], _LOW_FIRST[48:]])
    for start in (0, 1)
]
"""Of each table: the frequencies except the mean, first the _KEY_BITS of its key."""


class _Table:
    """Photographs and their mirror images by signs of their frequencies.

    A copy has the signs of its original, unless a coefficient is near zero. So each photograph is
    entered under 2^_WEAK keys: with both signs of its _WEAK smallest coefficients.
    """

    def __init__(self, thumbnails: Thumbnails, order: Indices) -> None:
        count = len(thumbnails)
        code, self._weak = np.empty(count, np.uint64), np.empty((count, _WEAK), np.uint64)
        bit = np.uint64(1) << np.arange(63, 0, -1, dtype=np.uint64)
        for start in range(0, count, _PAIRS):
            part = slice(start, start + _PAIRS)
            values = _spectrum(thumbnails[part])[:, order]
            code[part] = ((values > 0) * bit).sum(1, dtype=np.uint64)
            weakest = np.argsort(np.abs(values[:, :_KEY_BITS]), axis=1, kind="stable")
            self._weak[part] = bit[weakest[:, :_WEAK]]
        odd = bit[_COLS[order] % 2 == 1].sum(dtype=np.uint64)
        self._codes = np.stack([code, code ^ odd], 1)  # the mirror image has those signs changed

    def candidates(self, root: Indices) -> Iterator[tuple[Indices, Indices]]:
        """Yield pairs of entries, at most _PAIRS at once, that `root` does not link yet."""
        codes = self._codes.reshape(-1)
        for values, unordered in self._parts():
            order = np.argsort(values, kind="stable")
            keys, entries = values[order] >> np.uint64(64 - _KEY_BITS), unordered[order]
            left = np.arange(len(keys))
            for step in range(1, _NEXT + 1):
                left = left[: np.searchsorted(left, len(keys) - step)]
                left = left[keys[left] == keys[left + step]]
                a, b = entries[left], entries[left + step]
                near = np.bitwise_count(codes[a] ^ codes[b]) <= _CODE_DISTANCE
                a, b = a[near], b[near]
                for start in range(0, len(a), _PAIRS):
                    part = slice(start, start + _PAIRS)
                    new = _find(root, a[part] >> 1) != _find(root, b[part] >> 1)
                    if new.any():
                        yield a[part][new], b[part][new]

    def _parts(self) -> Iterator[tuple[Codes, Indices]]:
        """Yield keys and entries, at most about _ENTRIES at once, with all entries of a key."""
        parts = max(1, self._codes.size * 2**_WEAK // _ENTRIES)
        for part in range(parts):
            keys, entries = [], []
            for flips in itertools.product((False, True), repeat=_WEAK):
                flipped = self._codes ^ self._weak[:, flips].sum(1, dtype=np.uint64)[:, None]
                flipped = flipped.reshape(-1)
                chosen = (flipped >> np.uint64(64 - _KEY_BITS)) % np.uint64(parts) == part
                entries.append(np.flatnonzero(chosen))
                keys.append(flipped[entries[-1]])
            yield np.concatenate(keys), np.concatenate(entries)


def _grey(image: Pixels) -> Image.Image:
    step = max(1, min(image.shape[:2]) // 128)  # every pixel of a large image says no more
    return Image.fromarray(np.ascontiguousarray(image[::step, ::step])).convert("L")


def _gradients(thumbnails: Thumbnails) -> NDArray[np.float64]:
    levels = thumbnails / 256
    across, down = np.diff(levels, axis=2), np.diff(levels, axis=1)
    return np.concatenate([across.reshape(len(levels), -1), down.reshape(len(levels), -1)], 1)


def _spectrum(thumbnails: Thumbnails) -> NDArray[np.float64]:
    """Return the gradients' share of each frequency but the mean, (m, 63)."""
    return ((_DCT @ (thumbnails / 256) @ _DCT.T) * _WEIGHT).reshape(len(thumbnails), -1)[:, 1:]


def _details(thumbnails: Thumbnails, gradients: NDArray[np.float64]) -> NDArray[np.float64]:
    energies = [gradients**2, _spectrum(thumbnails) ** 2]
    ratios = [e.sum(1) ** 2 / np.maximum((e * e).sum(1), 1e-12) for e in energies]
    return np.minimum(*ratios)


def _find(root: Indices, places: Indices) -> Indices:
    found = root[places]
    while not np.array_equal(found, above := root[found]):
        found = above
    return found


def _link(root: Indices, first: int, other: int) -> bool:
    """Join the groups of two photographs; the root is the first. Return whether they differed."""
    first, other = _root_of(root, first), _root_of(root, other)
    root[max(first, other)] = min(first, other)
    return first != other


def _root_of(root: Indices, place: int) -> int:
    while (above := int(root[place])) != place:
        root[place] = root[above]
        place = above
    return place
