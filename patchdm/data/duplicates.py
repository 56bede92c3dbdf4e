"""Photographs that look alike, found by a perceptual hash of 64 bits.

Two hashes at most `MAX_DISTANCE` bits apart agree in at least one of `MAX_DISTANCE + 1` bands of
their bits, so that only images with an equal band are compared, not all with all.
"""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from patchdm.data.images import Pixels

MAX_DISTANCE = 4
"""Hashes that differ in so many bits at most are of near-duplicates."""

Hashes = NDArray[np.uint64]


def difference_hash(image: Pixels) -> int:
    """Return 64 bits: which pixel of the image's 9 x 8 grey thumbnail is darker than the next.

    Scale, compression, brightness and contrast hardly change it.
    """
    step = max(1, min(image.shape[:2]) // 128)  # every pixel of a large image says no more
    sampled = Image.fromarray(np.ascontiguousarray(image[::step, ::step]))
    grey = sampled.convert("L").resize((9, 8), Image.Resampling.BOX)
    levels = np.asarray(grey).astype(np.int16)
    return int.from_bytes(np.packbits(levels[:, 1:] > levels[:, :-1]).tobytes())


def near_duplicates(hashes: Hashes) -> pd.DataFrame:
    """Find, for each image, the first one before it that looks alike.

    Args:
        hashes: (n,) uint64 of `difference_hash`.

    Returns:
        One row an image that has one: `place`, `like` (the places of the two in `hashes`) and
        `distance` (bits that differ, 0 to MAX_DISTANCE), by place.
    """
    unique, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    # The first image alike is the first of its hash, whose place stands for the hash from here.
    like = first.copy()
    for key in _bands(unique):
        order = np.argsort(key, kind="stable")
        _lower_in_runs(unique, first, like, order, key[order])
    nearest = like[inverse]
    places = np.flatnonzero(nearest != np.arange(len(hashes)))
    like_places = nearest[places]
    distance = np.bitwise_count(hashes[places] ^ hashes[like_places])
    return pd.DataFrame({"place": places, "like": like_places, "distance": distance})


def _bands(hashes: Hashes) -> list[Hashes]:
    """Cut the bits of hashes into MAX_DISTANCE + 1 bands."""
    edges = np.linspace(0, 64, MAX_DISTANCE + 2).astype(int).tolist()
    return [
        (hashes >> np.uint64(low)) & np.uint64(2 ** (high - low) - 1)
        for low, high in itertools.pairwise(edges)
    ]


def _lower_in_runs(
    hashes: Hashes,
    first: NDArray[np.int64],
    like: NDArray[np.int64],
    order: NDArray[np.int64],
    key: Hashes,
) -> None:
    """Lower `like` of every hash to the first place of a near one that shares its band.

    Neighbours at distance 1, 2, .. in the order by band are compared, all at once, as long as any
    have a band in common.
    """
    left = np.arange(len(order) - 1)
    step = 1
    while len(left):
        left = left[: np.searchsorted(left, len(order) - step)]
        left = left[key[left] == key[left + step]]  # runs of equal bands, shorter by the step
        a, b = order[left], order[left + step]
        near = np.bitwise_count(hashes[a] ^ hashes[b]) <= MAX_DISTANCE
        a, b = a[near], b[near]
        np.minimum.at(like, a, first[b])
        np.minimum.at(like, b, first[a])
        step += 1
