"""Stage tables: the paper's tables rebuilt, its numbers next to the run's -> reports/paper/."""

from __future__ import annotations

from pathlib import Path

from patchdm.config import Params
from patchdm.formats.patch_store import PatchStore
from patchdm.models.parts import count_parameters, meta_networks
from patchdm.report.tables.build import (
    ablation_table,
    parameters_table,
    quality_table,
    resolution_table,
)
from patchdm.report.tables.results import read_resolutions, read_result
from patchdm.report.tables.write import write_tables
from stages import _common as paths
from stages._common import locked, run_stage, writing

RESOLUTIONS = Path("benchmarks/results/resolution.csv")


def tables(params: Params) -> None:
    """Write quality, ablation, parameters and resolution, as .csv, .md and .tex."""
    run = read_result(paths.METRICS)
    folder, seeds = paths.ABLATION_METRICS, params.ablation.seeds
    cells = {
        variant: [read_result(folder / f"{variant}-{seed}.json") for seed in seeds]
        for variant in params.ablation.variants
    }
    size = f"{params.data.width}x{params.data.height}"
    images = len(PatchStore(paths.PATCHES).rows("train"))
    counted = count_parameters(meta_networks(params.model, params.latent, images))
    built = {
        "quality": quality_table(_data_set(params), size, cells.get("full") or [run]),
        "ablation": ablation_table(cells, run),
        "parameters": parameters_table(counted),
        "resolution": resolution_table(read_resolutions(RESOLUTIONS)),
    }
    with locked("tables"), writing(paths.PAPER_TABLES) as fresh:
        fresh.mkdir()
        write_tables(fresh, built)


def _data_set(params: Params) -> str:
    """Return the name of the data set, as the paper's numbers have it.

    `ffhq` is ffhq256 at that width, `church_outdoor_train_lmdb.zip` is lsun-church256.
    """
    source, width = Path(params.data.location), params.data.width
    match params.data.source:
        case "folder":
            return f"{source.name}{width}"
        case "lsun":
            return f"lsun-{source.name.partition('_')[0]}{width}"
        case _:
            return source.stem


if __name__ == "__main__":
    run_stage(tables)
