"""Which photographs are held out, and which images the store holds in which order."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pandas as pd

from patchdm.errors import PatchDMError

_NAMES = {
    "image": "source",
    "source": "origin",
    "sha256": "original_sha256",
    "bytes": "original_bytes",
}
"""Columns of the manifest -> what they are called beside those of a training image."""


def held_out(photographs: int, test_fraction: float) -> int:
    """Return how many of so many photographs are held out of training."""
    return math.ceil(Fraction(str(test_fraction)) * photographs)


def plan_images(manifest: pd.DataFrame, test_fraction: float, *, flips: bool) -> pd.DataFrame:
    """List the images of the store: those for training first, then those held out.

    The split goes by photograph: at least `test_fraction` of them, those with the smallest
    SHA-256, are held out. So it is deterministic, needs no seed, hardly changes when
    photographs are added, and never parts equal files. A mirror image follows its original,
    as an image of its own, among the training images only.

    Args:
        manifest: one row a photograph, with the columns of `patchdm.data.raw.Photograph`, of
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
    test = photographs["original_sha256"].isin(smallest)
    if test.all():
        raise PatchDMError(
            f"data.test_fraction: {test_fraction} of {len(manifest)} photographs leaves none for "
            "training, allowed are smaller fractions or more photographs"
        )
    copies = np.where(test, 1, 1 + flips)
    place = np.repeat(np.arange(len(photographs)), copies)
    flipped = np.append(False, place[1:] == place[:-1])
    order = np.argsort(test.to_numpy()[place], kind="stable")
    place, flipped = place[order], flipped[order]
    plan = photographs.iloc[place].reset_index(drop=True)
    split = np.where(test.to_numpy()[place], "test", "train")
    facts = [name for name in plan.columns if name != "source"]
    plan = plan.assign(image=np.arange(len(plan)), flipped=flipped, split=split)
    return plan[["image", "source", "flipped", "split", *facts]]
