"""Show the run on one page: reports/index.html, and its figures as files: reports/figures/."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

from patchdm.config import Params
from patchdm.console import progress
from patchdm.formats.patch_store import PatchStore
from patchdm.metrics.images import Samples
from patchdm.report import gallery, inputs
from patchdm.report.ablation import ablation, read_variant
from patchdm.report.applications import applications
from patchdm.report.page import render
from patchdm.report.parts import Section
from patchdm.report.tables.paper import data_set
from patchdm.report.tables.write import paper_section, read_words
from stages import _common as paths
from stages._common import locked, run_stage
from stages._outputs import writing

LIBRARIES = ("patchdm", "torch", "diffusers", "accelerate", "torch-fidelity", "numpy")


def report(params: Params) -> None:
    """Write the page, and its figures once more as files."""
    metrics = inputs.read_metrics(paths.METRICS, inputs.Metrics)
    table = inputs.read_table(paths.TABLES / "metrics.csv")
    samples = Samples(paths.SAMPLES, PatchStore(paths.PATCHES))
    weights = inputs.read_weights(paths.PATCHDM)
    curves = gallery.curve_pictures(paths.PATCHDM_CURVES, "U-Net and codes", "images seen")
    health = None
    if params.model.code != "none":  # otherwise there is no latent model
        weights += inputs.read_weights(paths.LATENT)
        curves += gallery.curve_pictures(paths.LATENT_CURVES, "Latent model", "codes seen")
        health = inputs.read_metrics(paths.LATENT_CURVES / "health.json", inputs.CodeHealth)
    names = params.ablation.cells
    files = {name: paths.ABLATION_METRICS / f"{name}.json" for name in names}
    cells = {name: inputs.read_metrics(file, inputs.Cell) for name, file in files.items()}
    nearest, store = paths.TABLES / "nearest.csv", samples.store
    findings = inputs.read_findings(paths.PATCHES)
    images = len(samples.seeds) + len(store.rows("train"))
    with locked("report"), progress("report", images, "images") as show:
        sections = [
            gallery.sheets(samples, params.report.sheet_images),
            *gallery.seams(samples, params.model.patch_size, show),
            *_ablation(params, store, cells),
            gallery.memorisation(nearest, samples, metrics.nearest, params.report.nearest_images),
            *applications(
                paths.APPLICATIONS,
                paths.APPLICATION_TABLES,
                store.photographs("test").tolist(),
                params.model.patch_size,
            ),
            paper_section(paths.PAPER_TABLES, _shown(params)),
            gallery.training(curves, health),
            gallery.development(paths.PATCHDM_CURVES / "sheets"),
        ]
        shown = [row for section in sections for row in section.photographs]
        credited = params.data.source in ("bundled", "folder")
        authors = inputs.read_authors(Path(params.data.location)) if credited else {}
        sections.append(gallery.credits_of(store, shown, authors))
        versions = {"Python": platform.python_version()}
        versions |= {name: version(name) for name in LIBRARIES}
        page = render(
            params,
            metrics,
            table,
            sections,
            findings=findings,
            weights=weights,
            cells=cells,
            versions=versions,
        )
        with writing(paths.FIGURES) as fresh:
            fresh.mkdir()
            for picture in (picture for section in sections for picture in section.pictures):
                (fresh / f"{picture.name}.png").write_bytes(picture.png)
        with writing(paths.REPORT) as fresh:
            fresh.write_text(page, encoding="utf-8")


def _shown(params: Params) -> str | None:
    """Return the data set whose rows the tables show, None: all."""
    return None if params.data.source == "bundled" else data_set(params.data)


def _ablation(params: Params, store: PatchStore, cells: dict[str, inputs.Cell]) -> list[Section]:
    p, variants = params.model.patch_size, {}
    for variant in params.ablation.names:
        names = [f"{variant}-{seed}" for seed in params.ablation.seeds]
        samples = [Samples(paths.ABLATIONS / name / "samples", store) for name in names]
        variants[variant] = read_variant([cells[name] for name in names], samples, p)
    names = ["ablation"]
    if "full" in variants and len(variants) > 1:
        names.append("differences")
    found = [read_words(paths.PAPER_TABLES, name, _shown(params)) for name in names]
    return ablation(variants, store, tables=found, patch_size=p)


if __name__ == "__main__":
    run_stage(report)
