"""Show the run on one page: reports/index.html, and its figures as files: reports/figures/."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from patchdm.config import Params
from patchdm.console import progress
from patchdm.errors import PatchDMError
from patchdm.formats.images import Pixels, read_image
from patchdm.formats.patch_store import PatchStore
from patchdm.formats.shards import read_images, read_manifest
from patchdm.metrics.seams import step_maps
from patchdm.report.ablation import Variant, ablation, by_place
from patchdm.report.applications import beyond, restoring
from patchdm.report.gallery import (
    curve_pictures,
    development,
    seam_crops,
    seam_profiles,
    sheets,
    training,
)
from patchdm.report.inputs import (
    Cell,
    CodeHealth,
    Metrics,
    read_curves,
    read_frame,
    read_markdown,
    read_metrics,
    read_sheets,
    read_table,
    read_weights,
)
from patchdm.report.memorisation import memorisation
from patchdm.report.page import render
from patchdm.report.parts import Picture, Section
from stages._common import (
    ABLATION_METRICS,
    ABLATIONS,
    APPLICATION_TABLES,
    APPLICATIONS,
    FIGURES,
    LATENT,
    LATENT_CURVES,
    METRICS,
    PAPER_TABLES,
    PATCHDM,
    PATCHDM_CURVES,
    PATCHES,
    REPORT,
    SAMPLES,
    TABLES,
    locked,
    run_stage,
    writing,
)

PROGRESS_SHEETS = 6
ROW_IMAGES = 7
"""Images beside each other in rows that compare."""
RESTORED_IMAGES = 6
LARGE_IMAGES = 4
LIBRARIES = ("patchdm", "torch", "diffusers", "accelerate", "torch-fidelity", "numpy")


def report(params: Params) -> None:
    """Write the page, and its figures once more as files."""
    metrics, table = read_metrics(METRICS, Metrics), read_table(TABLES / "metrics.csv")
    store, seeds = PatchStore(PATCHES), read_manifest(SAMPLES)["seed"].to_numpy()
    weights = read_weights(PATCHDM)
    curves = _curves(PATCHDM_CURVES, "U-Net and codes", "images seen")
    health = None
    if params.model.code != "none":  # otherwise there is no latent model
        weights += read_weights(LATENT)
        curves += _curves(LATENT_CURVES, "Latent model", "codes seen")
        health = read_metrics(LATENT_CURVES / "health.json", CodeHealth)
    cells = {
        name: read_metrics(ABLATION_METRICS / f"{name}.json", Cell)
        for variant in params.ablation.variants
        for name in _cells(params, variant)
    }
    with locked("report"):
        sections = [
            _sheets(store, seeds, params.report.sheet_images),
            *_seams(store, seeds, params.model.patch_size),
            *_ablation(params, store, metrics, cells),
            _memorisation(store, metrics, params.report.nearest_images),
            *_applications(),
            _paper_tables(),
            training(curves, health),
            development(read_sheets(PATCHDM_CURVES / "sheets", PROGRESS_SHEETS)),
        ]
        versions = {"Python": platform.python_version()}
        versions |= {name: version(name) for name in LIBRARIES}
        page = render(
            params, metrics, table, sections, weights=weights, cells=cells, versions=versions
        )
        with writing(FIGURES) as fresh:
            fresh.mkdir()
            for picture in (picture for section in sections for picture in section.pictures):
                (fresh / f"{picture.name}.png").write_bytes(picture.png)
        with writing(REPORT) as fresh:
            fresh.write_text(page, encoding="utf-8")


def _samples(folder: Path, store: PatchStore, seeds: np.ndarray) -> Iterator[Pixels]:
    for seed, image in read_images(folder, seeds.tolist()):
        if image.shape[:2] != (store.height, store.width):
            raise PatchDMError(
                f"{folder}: found {image.shape[1]} x {image.shape[0]} pixels of seed {seed}, "
                f"expected {store.width} x {store.height} as in {PATCHES}"
            )
        yield image


def _sheets(store: PatchStore, seeds: np.ndarray, most: int) -> Section:
    """Show the first samples, and photographs from all over their sets."""
    return sheets(
        np.stack(list(_samples(SAMPLES, store, seeds[:most]))),
        store.images(_spread(_upright(store), most)),
        store.images(_spread(store.rows("test"), most)),
    )


def _upright(store: PatchStore) -> np.ndarray:
    rows = store.rows("train")
    return rows[~store.columns("flipped")["flipped"].to_numpy()[rows]]


def _spread(rows: np.ndarray, most: int) -> np.ndarray:
    """Take at most so many rows at equal distances."""
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int)]


def _seams(store: PatchStore, seeds: np.ndarray, patch_size: int) -> list[Section]:
    rows = store.rows("train")
    with progress("report", len(seeds) + len(rows), "images") as advance_to:

        def counted(images: Iterable[Pixels], before: int) -> Iterator[Pixels]:
            for number, image in enumerate(images, before + 1):
                yield image[None]
                advance_to(number)

        samples = counted(_samples(SAMPLES, store, seeds), 0)
        train = counted((store.images([row])[0] for row in rows), len(seeds))
        profiles = seam_profiles(samples, train, patch_size)
    first = np.stack(list(_samples(SAMPLES, store, seeds[:ROW_IMAGES])))
    photographs = store.images(_spread(_upright(store), ROW_IMAGES))
    return [profiles, seam_crops(first, photographs, patch_size)]


def _cells(params: Params, variant: str) -> list[str]:
    """Return the names of a variant's cells, one for each training seed."""
    return [f"{variant}-{seed}" for seed in params.ablation.seeds]


def _ablation(
    params: Params, store: PatchStore, metrics: Metrics, cells: dict[str, Cell]
) -> list[Section]:
    if not params.ablation.variants:
        return []
    p = params.model.patch_size
    variants: dict[str, Variant] = {}
    for name in params.ablation.variants:
        folders = [ABLATIONS / cell / "samples" for cell in _cells(params, name)]
        seeds = [read_manifest(folder)["seed"].to_numpy() for folder in folders]
        images = (
            image[None]
            for folder, numbers in zip(folders, seeds, strict=True)
            for image in _samples(folder, store, numbers)
        )
        variants[name] = Variant(
            [cells[cell] for cell in _cells(params, name)],
            np.stack(list(_samples(folders[0], store, seeds[0][:ROW_IMAGES]))),
            by_place(*step_maps(images), p),
        )
    train = (store.images([row]) for row in store.rows("train"))
    return ablation(
        variants,
        by_place(*step_maps(train), p),
        table=read_markdown(PAPER_TABLES / "ablation.md"),
        seam_real=metrics.seam_real,
        patch_size=p,
    )


def _memorisation(store: PatchStore, metrics: Metrics, most: int) -> Section:
    path = TABLES / "nearest.csv"
    columns = ["seed", "train_row", "distance", "pixel_train_row", "pixel_distance"]
    shown = read_frame(path, columns).nsmallest(most, "distance")
    photographs = pd.concat([shown["train_row"], shown["pixel_train_row"]])
    if not photographs.isin(store.rows("train")).all():
        raise PatchDMError(f"{path}: found rows that are no training images of {PATCHES}")
    return memorisation(
        shown,
        np.stack(list(_samples(SAMPLES, store, shown["seed"].to_numpy()))),
        store.images(shown["train_row"]),
        store.images(shown["pixel_train_row"]),
        metrics.nearest,
    )


def _applications() -> list[Section]:
    restored = read_frame(APPLICATION_TABLES / "applications.csv", ["task", "method"])
    large = read_frame(APPLICATION_TABLES / "large.csv", ["set", "width", "height"])
    return [
        restoring(
            restored, {task: _pictures(task, RESTORED_IMAGES) for task in restored["task"].unique()}
        ),
        beyond(
            large,
            {
                name: np.stack(_pictures(name, LARGE_IMAGES))
                for name in large["set"]
                if name != "photographs"
            },
        ),
    ]


def _pictures(folder: str, most: int) -> list[Pixels]:
    """Read the first pictures of a folder of data/applications/."""
    paths = sorted((APPLICATIONS / folder).glob("*.png"))[:most]
    if not paths:
        raise PatchDMError(f"{APPLICATIONS / folder}: found no pictures")
    return [read_image(path) for path in paths]


def _paper_tables() -> Section:
    names = ("quality", "parameters", "resolution")
    return Section(
        key="paper",
        title="Beside the paper",
        text="The paper's numbers with where they come from, and what was measured here. A cell is "
        "empty where nothing is known or was measured.",
        tables=[read_markdown(PAPER_TABLES / f"{name}.md") for name in names],
    )


def _curves(folder: Path, model: str, seen: str) -> list[Picture]:
    curves = read_curves(folder / "plots" / "metrics", ["loss", "learning_rate", "grad_norm"])
    return curve_pictures(curves, name=folder.name, model=model, seen=seen)


if __name__ == "__main__":
    run_stage(report)
