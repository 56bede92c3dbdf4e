"""Show the run on one page: metrics, images, curves -> reports/index.html, reports/figures/."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from patchdm.config import Params
from patchdm.data.images import Pixels, read_image
from patchdm.data.patch_store import PatchStore
from patchdm.errors import PatchDMError
from patchdm.files import replacing
from patchdm.report.gallery import (
    Gallery,
    Picture,
    curve_pictures,
    progress_pictures,
    seam_pictures,
    sheet_pictures,
)
from patchdm.report.inputs import (
    read_curves,
    read_metrics,
    read_sheets,
    read_table,
    read_weights,
)
from patchdm.report.page import render
from stages._common import (
    FIGURES,
    LATENT,
    LATENT_CURVES,
    METRICS,
    PATCHDM,
    PATCHDM_CURVES,
    PATCHES,
    REPORT,
    SAMPLES,
    TABLES,
    progress,
    run_stage,
    state_dir,
)

PROGRESS_SHEETS = 6
LIBRARIES = ("patchdm", "torch", "diffusers", "torch-fidelity")


def report(params: Params) -> None:
    """Write the page, and its figures once more as files."""
    metrics, table = read_metrics(METRICS), read_table(TABLES / "metrics.csv")
    store, seeds = PatchStore(PATCHES), _seeds()
    weights = read_weights(PATCHDM)
    curves = _curves(PATCHDM_CURVES, "U-Net and codes", "images seen")
    if params.model.code != "none":  # otherwise there is no latent model
        weights += read_weights(LATENT)
        curves += _curves(LATENT_CURVES, "Latent model", "codes seen")
    with state_dir("report", [], []):  # its lock: one writer at a time
        gallery = Gallery(
            sheets=_sheets(store, seeds, params.report.sheet_images),
            seams=_seams(store, seeds, params.model.patch_size),
            curves=curves,
            progress=progress_pictures(read_sheets(PATCHDM_CURVES / "sheets", PROGRESS_SHEETS)),
        )
        versions = {name: version(name) for name in LIBRARIES}
        page = render(params, metrics, table, gallery, weights=weights, versions=versions)
        with replacing(FIGURES) as fresh:
            fresh.mkdir()
            for picture in gallery.all():
                (fresh / f"{picture.name}.png").write_bytes(picture.png)
        with replacing(REPORT) as fresh:
            fresh.write_text(page, encoding="utf-8")


def _seeds() -> np.ndarray:
    """Return the seeds of the samples."""
    path = SAMPLES / "manifest.parquet"
    if not path.is_file():
        raise PatchDMError(f"{path}: not found, run the stage sample (`dvc repro`)")
    try:
        seeds = pd.read_parquet(path, columns=["seed"])["seed"].to_numpy()
    except (OSError, ValueError):
        raise PatchDMError(f"{path}: not a table with the column seed") from None
    if not len(seeds):
        raise PatchDMError(f"{path}: found no samples")
    return seeds


def _read_sample(store: PatchStore, seed: int) -> Pixels:
    path = SAMPLES / f"{seed:06d}.png"
    image = read_image(path)
    if image.shape[:2] != (store.height, store.width):
        raise PatchDMError(
            f"{path}: found {image.shape[1]} x {image.shape[0]} pixels, allowed is "
            f"{store.width} x {store.height} as in {PATCHES}"
        )
    return image


def _sheets(store: PatchStore, seeds: np.ndarray, most: int) -> list[Picture]:
    """Return sheets of the first samples, and of photographs from all over their sets."""
    train, test = store.rows("train"), store.rows("test")
    upright = train[~store.index["flipped"].to_numpy()[train]]
    return sheet_pictures(
        np.stack([_read_sample(store, seed) for seed in seeds[:most]]),
        store.images(_spread(upright, most)),
        store.images(_spread(test, most)),
    )


def _spread(rows: np.ndarray, most: int) -> np.ndarray:
    """Take at most so many rows at equal distances."""
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int)]


def _seams(store: PatchStore, seeds: np.ndarray, patch_size: int) -> list[Picture]:
    rows = store.rows("train")
    with progress("report", len(seeds) + len(rows), "images") as advance_to:

        def read(
            numbers: np.ndarray, image: Callable[[int], Pixels], done: int
        ) -> Iterator[Pixels]:
            for position, number in enumerate(numbers):
                yield image(number)[None]
                advance_to(done + position + 1)

        samples = read(seeds, lambda seed: _read_sample(store, seed), 0)
        train = read(rows, lambda row: store.images([row])[0], len(seeds))
        return seam_pictures(samples, train, patch_size)


def _curves(folder: Path, model: str, seen: str) -> list[Picture]:
    curves = read_curves(folder / "plots" / "metrics", ["loss", "learning_rate", "grad_norm"])
    return curve_pictures(curves, name=folder.name, model=model, seen=seen)


if __name__ == "__main__":
    run_stage(report)
