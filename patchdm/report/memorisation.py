"""The section that shows whether the model copies: samples beside their nearest photographs."""

from __future__ import annotations

import numpy as np
import pandas as pd

from patchdm.formats.images import Pixels, contact_sheet
from patchdm.report import figures
from patchdm.report.inputs import Nearness
from patchdm.report.parts import Picture, Section


def memorisation(
    neighbours: pd.DataFrame,
    samples: Pixels,
    by_features: Pixels,
    by_pixels: Pixels,
    nearness: dict[str, Nearness],
) -> Section:
    """Show samples beside the training images that are nearest to them.

    Args:
        neighbours: rows of nearest.csv, of the samples shown.
        samples, by_features, by_pixels: (n, H, W, 3) each: samples, and their nearest training
            images by features and by the pixels of thumbnails.
        nearness: how near all samples are, by features and by pixels.
    """
    triples = np.stack([samples, by_features, by_pixels], axis=1)
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
