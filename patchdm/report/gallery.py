"""The sections of every run: sheets, seams, nearest photographs, training curves, progress."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from patchdm.errors import PatchDMError
from patchdm.formats.images import Pixels, contact_sheet
from patchdm.formats.patch_store import PatchStore
from patchdm.metrics.images import Keyed, Samples, counted, photographs_of
from patchdm.metrics.seams import Border, border_scores, step_maps, worst
from patchdm.report import figures
from patchdm.report.inputs import CodeHealth, Nearness, read_curves, read_frame, read_sheets
from patchdm.report.parts import Picture, Section, Table

REAL = "training images"
ROW_IMAGES = 7
"""Images next to each other in rows that compare."""
PROGRESS_SHEETS = 6
_HEALTH = (
    "Codes that the latent model samples, next to those of the training images; every dimension in "
    "units of its deviation there. Error of the mean and distances are root mean squares over "
    "dimensions; a model that copies codes has a distance of 0."
)
NEAREST = ("seed", "train_row", "distance", "pixel_train_row", "pixel_distance")
"""Columns of nearest.csv."""


def sheets(samples: Samples, most: int) -> Section:
    """Lay at most so many samples, training images and held-out images out on a sheet each."""
    store = samples.store
    train, test = (_spread(store, split, most) for split in ("train", "test"))
    sets = [
        ("samples", "Samples", "the first seeds", samples.images(samples.seeds[:most])),
        ("train", "Training images", "whole photographs", store.images(train)),
        ("test", "Held-out images", "never trained on", store.images(test)),
    ]
    return Section(
        key="sheets",
        title="Samples next to photographs",
        text="The first samples by seed, not chosen by eye; photographs are spread evenly over "
        "their set.",
        pictures=[
            Picture(f"sheet-{name}", title, f"{len(images)} images, {note}.", figures.sheet(images))
            for name, title, note, images in sets
        ],
        photographs=[*train, *test],
    )


def seams(samples: Samples, patch_size: int, show: Callable[[int], None]) -> list[Section]:
    """Draw where steps are, and magnify a few places; `show(n)` says that n images are read."""
    store, seeds = samples.store, samples.seeds
    own = counted(samples.each(seeds), show)
    train = counted(photographs_of(store, store.rows("train")), show, len(seeds))
    profiles = seam_profiles(_pixels(own), _pixels(train), patch_size)
    rows = _spread(store, "train", ROW_IMAGES)
    crops = _seam_crops(samples.images(seeds[:ROW_IMAGES]), store.images(rows), patch_size)
    return [profiles, replace(crops, photographs=rows.tolist())]


def _pixels(images: Iterable[Keyed]) -> Iterable[Pixels]:
    return (image[None] for _, image in images)


def _spread(store: PatchStore, split: str, most: int) -> NDArray[np.int64]:
    """Return the rows of at most so many whole photographs, at equal distances in their set."""
    rows = store.photographs(split)
    places = np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int)
    return rows[places]


def seam_profiles(samples: Iterable[Pixels], train: Iterable[Pixels], patch_size: int) -> Section:
    """Draw mean steps by column, by row and by pixel, of batches (n, H, W, 3) uint8 of one size.

    Raises:
        ValueError: a set has no image.
    """
    steps = {"samples": step_maps(samples), REAL: step_maps(train)}
    by_column = {name: across.mean(axis=0) for name, (across, _) in steps.items()}
    by_row = {name: down.mean(axis=1) for name, (_, down) in steps.items()}
    # The mean of the step to the right and the step down, where a pixel has both.
    maps = {name: (across[:-1] + down[:, :-1]) / 2 for name, (across, down) in steps.items()}
    highest = max(float(np.percentile(steps, 99.5)) for steps in maps.values())
    note = f"Borders of the {patch_size}-pixel patches: dotted the shifted, dashed the padded."
    ticks = "Ticks at patch borders; colours as in the map of training images."
    columns = figures.profiles(by_column, patch_size, "x, pixels")
    rows = figures.profiles(by_row, patch_size, "y, pixels")
    own, real = (figures.step_map(maps[name], patch_size, highest) for name in steps)
    title = "Steps at each pixel"
    pictures = [
        Picture("profile-columns", "Steps from column to column", note, columns),
        Picture("profile-rows", "Steps from row to row", note, rows),
        Picture("steps-samples", f"{title}: samples", ticks, own),
        Picture("steps-train", f"{title}: {REAL}", "What no seam looks like.", real),
    ]
    return Section(
        key="seams",
        title="Seams",
        text="Mean absolute step between neighbouring pixels, over all samples and all training "
        "images. A visible patch grid shows as peaks at the borders, or as a lattice in the map. "
        "Samples are tiled by the shifted patches; the padded ones, half a patch off, are those "
        "of which the network's features are collaged.",
        tables=[_borders(border_scores(steps["samples"], steps[REAL], patch_size))],
        pictures=pictures,
        shape="wide",
    )


def _borders(scores: Mapping[Border, float]) -> Table:
    """Say how large the seams are at the borders of either grid along either axis."""
    rows = []
    for grid, axis in itertools.product(("shifted", "padded"), "xy"):
        group = {b: score for b, score in scores.items() if (b.grid, b.axis) == (grid, axis)}
        if not group:  # one patch high or wide
            continue
        of_worst = worst(group)
        rows.append(
            [
                f"{grid} patches, {'columns' if axis == 'x' else 'rows'}",
                f"{len(group)}",
                f"{np.mean([*group.values()]):.3f}",
                f"{group[of_worst]:.3f}",
                f"{axis} = {of_worst.place}",
            ]
        )
    caption = (
        "The step across a border over the mean of those 1 to 3 pixels beside it, relative to "
        "training images: 1 is no seam."
    )
    return Table(caption, ["borders of", "number", "mean", "worst", "which"], rows)


def _seam_crops(samples: Pixels, train: Pixels, patch_size: int) -> Section:
    """Magnify regions around patch borders of samples and photographs, uint8 (n, H, W, 3)."""
    note = "Red marks: borders of the shifted patches, blue: of the padded; pixels are blocks."
    return Section(
        key="crops",
        title="Seams, magnified",
        text="Regions around corners of shifted and of padded patches in turn, of the first "
        "samples by seed and of training images at the same places.",
        pictures=[
            Picture("crops-samples", "Samples", note, figures.crops(samples, patch_size)),
            Picture("crops-train", "Training images", note, figures.crops(train, patch_size)),
        ],
        shape="rows",
    )


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
    neighbours = read_frame(path, NEAREST).nsmallest(most, "distance")
    nearest = [neighbours["train_row"], neighbours["pixel_train_row"]]
    if not pd.concat(nearest).isin(store.rows("train")).all():
        raise PatchDMError(f"{path}: found rows that are no training images of {store.folder}")
    shown = samples.images(neighbours["seed"].to_numpy())
    triples = np.stack([shown, *(store.images(rows) for rows in nearest)], axis=1)
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
        photographs=pd.concat(nearest).tolist(),
    )


def training(pictures: Sequence[Picture], health: CodeHealth | None) -> Section:
    """Show the curves of all trainings, and the health of the latent model if there is one."""
    text = "Each point is the mean since the point before it."
    tables = []
    if health:
        sampled = (health.mean_error, health.std_ratio, health.nearest)
        rows = [
            ["training", "0", "1", f"{health.nearest_training:.3f}"],
            ["sampled", *(f"{value:.3f}" for value in sampled)],
        ]
        header = ["codes", "error of the mean", "deviation"]
        tables = [Table(_HEALTH, [*header, "distance to the nearest training code"], rows)]
    return Section(key="curves", title="Training", text=text, tables=tables, pictures=pictures)


def curve_pictures(folder: Path, model: str, seen: str) -> list[Picture]:
    """Plot the curves of one training: losses, also by time, learning rate, norm of gradients.

    Args:
        folder: of the curves, after which pictures are named. Curves called loss_q.. share a plot,
            the other loss.. too.
        model: what was trained.
        seen: what the steps count.
    """
    name = folder.name
    curves = read_curves(folder / "plots/metrics", ["loss", "learning_rate", "grad_norm"])
    quarters = {f"quarter {key[-1]}": of for key, of in curves.items() if key.startswith("loss_q")}
    losses = {
        key.replace("_", ", "): of
        for key, of in curves.items()
        if key.startswith("loss") and not key.startswith("loss_q")
    }
    rate, norm = curves["learning_rate"], curves["grad_norm"]
    by_time = "Unweighted, for each quarter of the time steps; the first has least noise."
    last = f"Before clipping. Last: {norm.iloc[-1]:.3g}."
    shown = [
        ("loss", "loss", f"Last: {losses['loss'].iloc[-1]:.4f}.", losses),
        ("loss-by-time", "loss by time step", by_time, quarters),
        ("learning-rate", "learning rate", f"Highest: {rate.max():.3g}.", {"learning rate": rate}),
        ("grad-norm", "norm of the gradients", last, {"norm": norm}),
    ]
    return [
        Picture(
            f"{name}-{key}",
            f"{model}: {title}",
            caption,
            figures.curves(series, x_label=seen, log=key != "learning-rate"),
        )
        for key, title, caption, series in shown
        if series
    ]


def development(folder: Path) -> Section:
    """Show sheets drawn during the training, by the images seen: see `read_sheets`."""
    return Section(
        key="progress",
        title="How samples developed",
        text="Averaged weights, sampled from the same noise and the same codes each time.",
        pictures=[
            Picture(f"progress-{seen:09d}", f"{seen:,} images seen", "", figures.picture(image))
            for seen, image in read_sheets(folder, PROGRESS_SHEETS).items()
        ],
        shape="wide",
    )


def credits_of(store: PatchStore, rows: Iterable[int], authors: Mapping[str, str]) -> Section:
    """Name photographs that are shown: file, author, licence, origin; those with a licence.

    Args:
        store: of the photographs.
        rows: those shown, in any order, again and again.
        authors: file -> who made it, where that is known.
    """
    index = store.columns("source", "licence", "origin").iloc[sorted({*rows})]
    known = index[index["licence"] != "unknown"].drop_duplicates("source")
    facts: list[list[str]] = known.to_numpy().tolist()
    cells = [[file, authors.get(file, ""), *about] for file, *about in facts]
    table = Table("", ["file", "author", "licence", "origin"], cells, prose=True)
    return Section(
        key="credits",
        title="Photographs shown",
        text="Who made them, their licences and where they come from, as far as it is known.",
        tables=[table] if cells else [],
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
