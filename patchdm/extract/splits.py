"""Which photographs are held out, and which images the store holds in which order."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from patchdm.errors import PatchDMError

_NAMES = {
    "image": "source",
    "source": "origin",
    "sha256": "original_sha256",
    "bytes": "original_bytes",
}
"""Columns of the manifest -> what they are called beside those of a training image."""

Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]


def held_out(photographs: int, test_fraction: float) -> int:
    """Return how many of so many photographs are held out of training."""
    return math.ceil(Fraction(str(test_fraction)) * photographs)


def plan_images(manifest: pd.DataFrame, test_fraction: float, *, flips: bool) -> pd.DataFrame:
    """List the images of the store: those for training first, then those held out.

    The split goes by photograph: at least `test_fraction` of them, those with the smallest
    SHA-256, are held out. So it is deterministic, needs no seed, hardly changes when
    photographs are added, and never parts equal files. Copies that only look equal are known
    once all photographs are decoded: see `regroup`. A mirror image follows its original, as an
    image of its own, among the training images only.

    Args:
        manifest: one row a photograph, with the columns of `patchdm.formats.raw.Photograph`, of
            which `image` and `sha256` are needed.
        test_fraction: share of the photographs, in (0, 1).
        flips: add the mirror images.

    Returns:
        One row an image: `image` (row number), `source` (name of its photograph), `flipped`
        (bool), `split` ("train" or "test"); and of its photograph, as far as the manifest has
        them: `origin`, `licence`, `original_sha256`, `original_bytes`.

    Raises:
        PatchDMError: no photograph would be left for training.
    """
    # Both sorts and the choice stay within pandas: no Python object a photograph.
    smallest = manifest["sha256"].sort_values(ignore_index=True)
    smallest = smallest.iloc[: held_out(len(manifest), test_fraction)]
    photographs = manifest.sort_values("image", ignore_index=True).rename(columns=_NAMES)
    test = photographs["original_sha256"].isin(smallest).to_numpy()
    if test.all():
        raise PatchDMError(
            f"data.test_fraction: {test_fraction} of {len(manifest)} photographs leaves none for "
            "training, expected smaller fractions or more photographs"
        )
    return _planned(photographs, test, flips=flips)


class Regrouped(NamedTuple):
    """A plan that parts no group of photographs, and what it changes in a store."""

    plan: pd.DataFrame
    """As of `plan_images`; every image that may keeps its place."""
    old: Indices
    """Place of each of its images in the store of the plan before; -1: it has none there."""


def regroup(
    plan: pd.DataFrame, kept: Mask, group: Indices, test_fraction: float
) -> Regrouped | None:
    """Split by groups of photographs instead of one by one.

    Whole groups are held out, in the order of the smallest SHA-256 of each, where they fit into
    `test_fraction`; at last the smallest of the others, if that is nearer to `test_fraction`.

    Args:
        plan: of `plan_images`.
        kept: (rows,), which of its images the store has; all of a photograph or none.
        group: (photographs,), number of the group of each photograph, in the plan's order.
        test_fraction: share of the photographs, in (0, 1).

    Returns:
        What the store is to hold instead, or None: all photographs are one group.
    """
    flipped = plan["flipped"].to_numpy()
    originals = plan[~flipped]
    test = _choose(originals["original_sha256"], group, test_fraction)
    if test.all():
        return None
    # Back to the order of names, which `_planned` expects; `number` is its place in it.
    number, _ = pd.factorize(plan["source"], sort=True)
    order = np.argsort(number[~flipped])
    facts = originals.drop(columns=["image", "flipped", "split"])
    photographs = facts.iloc[order].reset_index(drop=True)
    usable = kept[~flipped][order]
    fresh = _planned(photographs[usable], test[order][usable], flips=bool(flipped.any()))
    places = np.full((len(photographs), 2), -1)
    places[number[kept], flipped[kept].astype(int)] = np.arange(kept.sum())
    again, _ = pd.factorize(fresh["source"], sort=True)
    old = places[usable][again, fresh["flipped"].to_numpy().astype(int)]
    stays = np.argsort(_settled(old, int((fresh["split"] == "train").sum())))
    fresh = fresh.iloc[stays].reset_index(drop=True)
    return Regrouped(fresh.assign(image=np.arange(len(fresh))), old[stays])


def _choose(sha256: pd.Series, group: Indices, test_fraction: float) -> Mask:
    """Say which photographs are held out, (n,); all of them: there is no other way."""
    wanted = held_out(len(sha256), test_fraction)
    order = sha256.argsort(kind="stable").to_numpy()
    _, first, sizes = np.unique(group[order], return_index=True, return_counts=True)
    ranked = np.argsort(first)
    sizes, leaders = sizes[ranked], group[order[first[ranked]]]
    chosen = np.zeros(len(sizes), bool)
    room = wanted
    for number, size in enumerate(sizes):
        if not room:
            break
        if size <= room:
            chosen[number] = True
            room -= size
    left = np.flatnonzero(~chosen)
    if len(left) == 1 < len(sizes) and sizes[left[0]] - wanted <= room:
        chosen = ~chosen  # to hold out that one alone is nearer
    elif len(left) and (not chosen.any() or (len(left) > 1 and sizes[left].min() <= 2 * room)):
        chosen[left[sizes[left].argmin()]] = True
    return np.isin(group, leaders[chosen])


def _settled(old: Indices, train: int) -> Indices:
    """Return a place for each image, those for training first, of which most have their old one."""
    place = np.empty_like(old)
    for low, high in ((0, train), (train, len(old))):
        part = old[low:high]
        stays = (part >= low) & (part < high)
        free = np.setdiff1d(np.arange(low, high), part[stays], assume_unique=True)
        place[low:high] = np.where(stays, part, 0)
        place[low:high][~stays] = free
    return place


def _planned(photographs: pd.DataFrame, test: Mask, *, flips: bool) -> pd.DataFrame:
    """List the images of photographs, which are in the order of their names."""
    copies = np.where(test, 1, 1 + flips)
    place = np.repeat(np.arange(len(photographs)), copies)
    flipped = np.append(False, place[1:] == place[:-1])
    order = np.argsort(test[place], kind="stable")
    place, flipped = place[order], flipped[order]
    plan = photographs.iloc[place].reset_index(drop=True)
    split = np.where(test[place], "test", "train")
    facts = [name for name in plan.columns if name != "source"]
    plan = plan.assign(image=np.arange(len(plan)), flipped=flipped, split=split)
    return plan[["image", "source", "flipped", "split", *facts]]
