"""The layout of a patch store: which images it holds in which order, and which are held out."""

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
"""Columns of the manifest -> their names in the layout, where `image` is a training image."""

Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]


def held_out(photographs: int, test_fraction: float) -> int:
    """Return how many photographs of a given number are held out of training."""
    return math.ceil(Fraction(str(test_fraction)) * photographs)


def lay_out(
    manifest: pd.DataFrame, test_fraction: float, *, views: int, flips: bool
) -> pd.DataFrame:
    """Return the layout of a store: the training images first, then those held out.

    Photographs are split, not images: at least `test_fraction` of them, those with the smallest
    SHA-256, are held out. So the split is deterministic, needs no seed, hardly changes when
    photographs are added, and never separates equal files. Copies that only look equal are known
    when all photographs are decoded: see `regroup`. The images of a photograph follow each other.

    Args:
        manifest: one row per photograph, with the columns of `patchdm.formats.raw.Photograph`, of
            which `image` and `sha256` are required.
        test_fraction: share of the photographs, in (0, 1).
        views: images of a photograph.
        flips: in training, add the mirror images of the whole photographs, as their last views.

    Returns:
        One row per image: `image` (row number), `source` (name of its photograph), `view` (its
        number, 0: the whole), `split` ("train" or "test"); and from the manifest, if it has them:
        `origin`, `licence`, `original_sha256`, `original_bytes`.

    Raises:
        PatchDMError: no photograph would be left for training.
    """
    # Both sorts and the choice stay within pandas: no Python object per photograph.
    smallest = manifest["sha256"].sort_values(ignore_index=True)
    smallest = smallest.iloc[: held_out(len(manifest), test_fraction)]
    photographs = manifest.sort_values("image", ignore_index=True).rename(columns=_NAMES)
    test = photographs["original_sha256"].isin(smallest).to_numpy()
    if test.all():
        raise PatchDMError(
            f"data.test_fraction: {test_fraction} of {len(manifest)} photographs leaves none for "
            "training, expected smaller fractions or more photographs"
        )
    return _laid_out(photographs, test, views + flips, views)


class Regrouped(NamedTuple):
    """A layout that separates no group of photographs, and what it changes in a store."""

    layout: pd.DataFrame
    """As from `lay_out`; images keep their places where possible."""
    old: Indices
    """Place of each of its images in the present store; -1: none."""


def regroup(
    layout: pd.DataFrame, kept: Mask, group: Indices, test_fraction: float
) -> Regrouped | None:
    """Split groups of photographs instead of single ones.

    Whole groups are held out, in the order of the smallest SHA-256 of each, if they fit into
    `test_fraction`; finally the smallest of the others, if that is nearer to `test_fraction`.

    Args:
        layout: from `lay_out`.
        kept: (rows,), which of its images the store has; all of a photograph or none.
        group: (photographs,), number of the group of each photograph, in the layout's order.
        test_fraction: share of the photographs, in (0, 1).

    Returns:
        The new layout; None: all photographs are one group.
    """
    view = layout["view"].to_numpy()
    most, whole = view.max() + 1, view == 0
    originals = layout[whole]
    test = _choose(originals["original_sha256"], group, test_fraction)
    if test.all():
        return None
    # Back to the order of names, which `_laid_out` expects; `number` is its place in it.
    number, _ = pd.factorize(layout["source"], sort=True)
    order = np.argsort(number[whole])
    facts = originals.drop(columns=["image", "view", "split"])
    photographs = facts.iloc[order].reset_index(drop=True)
    usable = kept[whole][order]
    held = view[(layout["split"] == "test").to_numpy()].max() + 1
    fresh = _laid_out(photographs[usable], test[order][usable], most, held)
    places = np.full((len(photographs), most), -1)
    places[number[kept], view[kept]] = np.arange(kept.sum())
    again, _ = pd.factorize(fresh["source"], sort=True)
    old = places[usable][again, fresh["view"]]
    stays = np.argsort(_settled(old, int((fresh["split"] == "train").sum())))
    fresh = fresh.iloc[stays].reset_index(drop=True)
    return Regrouped(fresh.assign(image=np.arange(len(fresh))), old[stays])


def _choose(sha256: pd.Series, group: Indices, test_fraction: float) -> Mask:
    """Return which photographs are held out, (n,); all: no split keeps the groups whole."""
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
        chosen = ~chosen  # holding out only that one is nearer
    elif len(left) and (not chosen.any() or (len(left) > 1 and sizes[left].min() <= 2 * room)):
        chosen[left[sizes[left].argmin()]] = True
    return np.isin(group, leaders[chosen])


def _settled(old: Indices, train: int) -> Indices:
    """Return a place for each image, training images first; most keep their old one."""
    place = np.empty_like(old)
    for low, high in ((0, train), (train, len(old))):
        part = old[low:high]
        stays = (part >= low) & (part < high)
        free = np.setdiff1d(np.arange(low, high), part[stays], assume_unique=True)
        place[low:high] = np.where(stays, part, 0)
        place[low:high][~stays] = free
    return place


def _laid_out(photographs: pd.DataFrame, test: Mask, trained: int, held: int) -> pd.DataFrame:
    """Return the layout of photographs, in the order of their names, by their numbers of views."""
    views = np.where(test, held, trained)
    place = np.repeat(np.arange(len(photographs)), views)
    view = np.arange(len(place)) - np.repeat(views.cumsum() - views, views)
    order = np.argsort(test[place], kind="stable")
    place, view = place[order], view[order]
    layout = photographs.iloc[place].reset_index(drop=True)
    split = np.where(test[place], "test", "train")
    facts = [name for name in layout.columns if name != "source"]
    layout = layout.assign(image=np.arange(len(layout)), view=view, split=split)
    return layout[["image", "source", "view", "split", *facts]]
