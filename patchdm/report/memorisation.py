"""The section that shows whether the model copies: samples beside their nearest photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from patchdm.errors import PatchDMError
from patchdm.formats.images import contact_sheet
from patchdm.metrics.images import Samples
from patchdm.report import figures
from patchdm.report.inputs import Nearness, read_frame
from patchdm.report.parts import Picture, Section

COLUMNS = ("seed", "train_row", "distance", "pixel_train_row", "pixel_distance")


def memorisation(path: Path, samples: Samples, nearness: dict[str, Nearness], most: int) -> Section:
    """Show the samples nearest to training images next to these.

    Args:
        path: nearest.csv.
        samples: whose neighbours it has.
        nearness: how near all samples are, by features and by pixels.
        most: samples to show.

    Raises:
        PatchDMError: the table is missing, damaged, or of other images.
    """
    store = samples.store
    neighbours = read_frame(path, COLUMNS).nsmallest(most, "distance")
    nearest = [neighbours["train_row"], neighbours["pixel_train_row"]]
    if not pd.concat(nearest).isin(store.rows("train")).all():
        raise PatchDMError(f"{path}: found rows that are no training images of {store.folder}")
    shown = [
        samples.images(neighbours["seed"].to_numpy()),
        *(store.images(rows) for rows in nearest),
    ]
    triples = np.stack(shown, axis=1)
    rows = zip(neighbours.itertuples(index=False), triples, strict=True)
    return Section(
        key="memorisation",
        title="Nearest training images",
        text=f"{_in_words(nearness)} Below are the samples nearest of all to a training image, by "
        "features. From left to right: the sample, its nearest training image by features, and "
        "by pixels of thumbnails.",
        pictures=[
            Picture(
                f"nearest-{row.seed:06d}",
                f"Seed {row.seed}",
                f"Distance {row.distance:.2f} in features, {row.pixel_distance:.0f} in pixels.",
                figures.picture(contact_sheet(triple, len(triple))),
            )
            for row, triple in rows
        ],
    )


def _in_words(nearness: dict[str, Nearness]) -> str:
    parts = [
        f"in {of.nearer_than_held_out:.0%} of all pairs by {kind} (median distance "
        f"{of.median_samples:.4g} against {of.median_held_out:.4g})"
        for kind, of in nearness.items()
    ]
    return (
        "Does the model copy? A sample lies nearer to the training images than a held-out "
        f"photograph does {' and '.join(parts)}. New images would reach 50%, copies 100%; smooth "
        "images come nearer than they should."
    )
