"""What an extraction found odd, as tables beside the store, and checksums of all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from patchdm.data.duplicates import near_duplicates
from patchdm.data.journal import Damaged
from patchdm.data.patch_store import INDEX
from patchdm.data.store_writer import Records
from patchdm.files import sha256

QUARANTINE, DUPLICATES, ENLARGED = "quarantine.csv", "duplicates.csv", "enlarged.csv"
CHECKSUMS = "SHA256SUMS"
"""Checksums of the index and the tables; those of the images are in the index."""


def write_findings(
    folder: Path,
    plan: pd.DataFrame,
    records: Records,
    damaged: list[Damaged],
    size: tuple[int, int],
) -> dict[str, int]:
    """Write the tables into a store that has its index, and CHECKSUMS; return their lengths.

    quarantine.csv: photographs that could not be used, and why. duplicates.csv: those that look
    like an earlier one. enlarged.csv: those smaller than a training image.

    Args:
        folder: of the store.
        plan: what `records` number the rows of.
        records: RECORD of all rows.
        damaged: what could not be used.
        size: width and height of a training image.
    """
    originals = records[records["kept"] & ~plan["flipped"].to_numpy()]
    tables = {
        QUARANTINE: pd.DataFrame(
            {"source": [d.source for d in damaged], "reason": [d.reason for d in damaged]}
        ),
        DUPLICATES: _duplicates(plan, originals),
        ENLARGED: _enlarged(plan, originals, *size),
    }
    for name, table in tables.items():
        table.to_csv(folder / name, index=False, lineterminator="\n")
    names = sorted([INDEX, *tables])
    lines = [f"{sha256(folder / name)}  {name}\n" for name in names]
    (folder / CHECKSUMS).write_text("".join(lines))
    return {name: len(table) for name, table in tables.items()}


def _duplicates(plan: pd.DataFrame, originals: Records) -> pd.DataFrame:
    pairs = near_duplicates(originals["perceptual_hash"])
    found, like = (plan.iloc[originals["row"][pairs[name]]] for name in ("place", "like"))
    return pd.DataFrame(
        {
            "source": found["source"].array,
            "split": found["split"].array,
            "like": like["source"].array,
            "like_split": like["split"].array,
            "distance": pairs["distance"],
        }
    )


def _enlarged(plan: pd.DataFrame, originals: Records, width: int, height: int) -> pd.DataFrame:
    small = originals[
        (originals["original_width"] < width) | (originals["original_height"] < height)
    ]
    return pd.DataFrame(
        {
            "source": plan["source"].iloc[np.asarray(small["row"])].array,
            "width": small["original_width"],
            "height": small["original_height"],
        }
    )
