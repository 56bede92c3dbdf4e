"""Show the run on one page: metrics, images, curves -> reports/index.html, reports/figures/."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np

from patchdm.config import Params
from patchdm.data.images import Pixels
from patchdm.data.patch_store import PatchStore
from patchdm.data.shards import read_images, read_manifest
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
    store, seeds = PatchStore(PATCHES), read_manifest(SAMPLES)["seed"].to_numpy()
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


def _read_samples(store: PatchStore, seeds: np.ndarray) -> Iterator[Pixels]:
    for seed, image in read_images(SAMPLES, seeds.tolist()):
        if image.shape[:2] != (store.height, store.width):
            raise PatchDMError(
                f"{SAMPLES}: found {image.shape[1]} x {image.shape[0]} pixels of seed {seed}, "
                f"allowed is {store.width} x {store.height} as in {PATCHES}"
            )
        yield image


def _sheets(store: PatchStore, seeds: np.ndarray, most: int) -> list[Picture]:
    """Return sheets of the first samples, and of photographs from all over their sets."""
    train, test = store.rows("train"), store.rows("test")
    upright = train[~store.index["flipped"].to_numpy()[train]]
    return sheet_pictures(
        np.stack(list(_read_samples(store, seeds[:most]))),
        store.images(_spread(upright, most)),
        store.images(_spread(test, most)),
    )


def _spread(rows: np.ndarray, most: int) -> np.ndarray:
    """Take at most so many rows at equal distances."""
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int)]


def _seams(store: PatchStore, seeds: np.ndarray, patch_size: int) -> list[Picture]:
    rows = store.rows("train")
    with progress("report", len(seeds) + len(rows), "images") as advance_to:

        def counted(images: Iterable[Pixels], before: int) -> Iterator[Pixels]:
            for number, image in enumerate(images, before + 1):
                yield image[None]
                advance_to(number)

        samples = counted(_read_samples(store, seeds), 0)
        train = counted((store.images([row])[0] for row in rows), len(seeds))
        return seam_pictures(samples, train, patch_size)


def _curves(folder: Path, model: str, seen: str) -> list[Picture]:
    curves = read_curves(folder / "plots" / "metrics", ["loss", "learning_rate", "grad_norm"])
    return curve_pictures(curves, name=folder.name, model=model, seen=seen)


if __name__ == "__main__":
    run_stage(report)
