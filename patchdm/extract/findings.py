"""Tables next to the store of what an extraction found wrong or unusual, and their checksums."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from patchdm.extract.duplicates import alike, groups_of
from patchdm.extract.journal import Damaged
from patchdm.extract.store_writer import Records
from patchdm.files import sha256
from patchdm.formats.patch_store import INDEX

QUARANTINE, DUPLICATES, ENLARGED = "quarantine.csv", "duplicates.csv", "enlarged.csv"
CHECKSUMS = "SHA256SUMS"
"""Lists the checksums of the index and the tables; the index has those of the images."""


class Lookalikes(NamedTuple):
    """The photographs of a layout that look alike."""

    group: NDArray[np.int64]
    """Number of the group of each photograph, (photographs,), in the layout's order."""
    pairs: pd.DataFrame
    """Pairs that link each group: `source`, `like` (names), `mirrored`, `evidence`, `crossed`
    (bool: the layout has them on different sides)."""
    crossed: int
    """Photographs that the layout holds out, though it trains on one of their group."""


def find_lookalikes(layout: pd.DataFrame, records: Records) -> Lookalikes:
    """Group the photographs of a layout by the thumbnails of all its records; damaged are alone."""
    rows = np.flatnonzero(layout["view"] == 0)
    kept = np.flatnonzero(records["kept"][rows])
    pairs = alike(records["thumbnail"][rows[kept]])
    first, other = (kept[pairs[name].to_numpy()] for name in ("like", "place"))
    group = groups_of(len(rows), first, other)
    test = (layout["split"] == "test").to_numpy()[rows]
    trained = np.zeros(len(rows), bool)
    trained[group[kept][~test[kept]]] = True
    names = layout["source"].iloc[rows]
    table = pd.DataFrame(
        {
            "source": names.iloc[other].array,
            "like": names.iloc[first].array,
            "mirrored": pairs["mirrored"],
            "evidence": pairs["evidence"].round(1),
            "crossed": test[first] != test[other],
        }
    )
    return Lookalikes(group, table, int((test & trained[group])[kept].sum()))


def write_findings(
    folder: Path,
    layout: pd.DataFrame,
    records: Records,
    lookalikes: Lookalikes,
    damaged: list[Damaged],
    size: tuple[int, int],
) -> dict[str, str]:
    """Write the tables, and CHECKSUMS, into a store that has its index; return their summaries.

    quarantine.csv: photographs that could not be used, and why. duplicates.csv: photographs that
    look like another one. enlarged.csv: photographs smaller than a training image.

    Args:
        layout: whose rows `records` count.
        records: RECORD of the images in the store.
        lookalikes: of a layout of the same photographs, which may split them differently.
        size: width and height of a training image.
    """
    originals = records[layout["view"].to_numpy()[records["row"]] == 0]
    tables = {
        QUARANTINE: pd.DataFrame(damaged, columns=["row", "source", "reason"]).drop(columns="row"),
        DUPLICATES: _duplicates(layout, lookalikes.pairs),
        ENLARGED: _enlarged(layout, originals, *size),
    }
    for name, table in tables.items():
        table.to_csv(folder / name, index=False, lineterminator="\n")
    names = sorted([INDEX, *tables])
    lines = [f"{sha256(folder / name)}  {name}\n" for name in names]
    (folder / CHECKSUMS).write_text("".join(lines))
    found = {name: f"found {len(table)} photographs" for name, table in tables.items()}
    if len(lookalikes.pairs):
        found[DUPLICATES] += _of_copies(tables[DUPLICATES], lookalikes)
    return {name: text for name, text in found.items() if len(tables[name])}


def _of_copies(table: pd.DataFrame, lookalikes: Lookalikes) -> str:
    """Summarise the copies that a split by single photograph would have separated."""
    found = f" that look like another one, at most {np.bincount(lookalikes.group).max()} in a group"
    if not lookalikes.crossed:
        return f"{found}; none crossed the split"
    parted = (table["split"] != table["like_split"]).any()
    outcome = "and have, as all photographs are alike" if parted else "and were put on its side"
    return f"{found}; {lookalikes.crossed} held out would have had such a one in training {outcome}"


def _duplicates(layout: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    originals = layout.loc[layout["view"] == 0, ["source", "split"]]
    named = originals[originals["source"].isin(pd.concat([pairs["source"], pairs["like"]]))]
    side = named.set_index("source")["split"]
    table = pairs.copy()
    table.insert(1, "split", side.loc[pairs["source"]].array)
    table.insert(3, "like_split", side.loc[pairs["like"]].array)
    return table


def _enlarged(layout: pd.DataFrame, originals: Records, width: int, height: int) -> pd.DataFrame:
    small = originals[
        (originals["original_width"] < width) | (originals["original_height"] < height)
    ]
    return pd.DataFrame(
        {
            "source": layout["source"].iloc[np.asarray(small["row"])].array,
            "width": small["original_width"],
            "height": small["original_height"],
        }
    )
