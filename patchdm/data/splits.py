"""Which photographs are held out, and which images the store holds in which order."""

from __future__ import annotations

import math
from fractions import Fraction

import pandas as pd

from patchdm.errors import PatchDMError


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
        manifest: one row a photograph, with columns `image` (file name) and `sha256`.
        test_fraction: share of the photographs, in (0, 1).
        flips: add the mirror images.

    Returns:
        One row an image: `image` (row number), `source` (file name of its photograph),
        `flipped` (bool), `split` ("train" or "test").

    Raises:
        PatchDMError: no photograph would be left for training.
    """
    smallest = sorted(manifest["sha256"])[: held_out(len(manifest), test_fraction)]
    photographs = manifest.sort_values("image", ignore_index=True)
    test = photographs["sha256"].isin(smallest)
    if test.all():
        raise PatchDMError(
            f"data.test_fraction: {test_fraction} of {len(manifest)} photographs leaves none for "
            "training, allowed are smaller fractions or more photographs"
        )
    copies = test.map({False: 1 + flips, True: 1})
    plan = pd.DataFrame({"source": photographs["image"], "test": test})
    plan = plan.loc[plan.index.repeat(copies)]
    plan["flipped"] = plan.index.duplicated()
    plan = plan.sort_values("test", kind="stable", ignore_index=True)
    plan["split"] = plan.pop("test").map({False: "train", True: "test"})
    return plan.rename_axis("image").reset_index()
