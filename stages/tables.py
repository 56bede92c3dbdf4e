"""Stage tables: the paper's tables rebuilt, its numbers next to the run's -> reports/paper/."""

from __future__ import annotations

from pathlib import Path

from patchdm.config import Params
from patchdm.report.inputs import count_parameters
from patchdm.report.tables.build import (
    ablation_table,
    differences_table,
    parameters_table,
    quality_table,
    resolution_table,
)
from patchdm.report.tables.paper import data_set
from patchdm.report.tables.results import read_resolutions, read_result
from patchdm.report.tables.write import write_tables
from stages import _common as paths
from stages._common import locked, run_stage
from stages._outputs import writing

RESOLUTIONS = Path("benchmarks/results/resolution.csv")


def tables(params: Params) -> None:
    """Write quality, ablation, its differences, parameters and resolution: .csv, .md and .tex."""
    run = read_result(paths.METRICS)
    folder, seeds = paths.ABLATION_METRICS, params.ablation.seeds
    cells = {
        variant: [read_result(folder / f"{variant}-{seed}.json") for seed in seeds]
        for variant in params.ablation.names
    }
    size = f"{params.data.width}x{params.data.height}"
    counted = {name: count_parameters(folder) for name, folder in _networks(params).items()}
    built = {
        "quality": quality_table(data_set(params.data), size, cells.get("full") or [run]),
        "ablation": ablation_table(cells, run),
        "parameters": parameters_table(counted),
        "resolution": resolution_table(read_resolutions(RESOLUTIONS)),
    }
    if "full" in cells and len(cells) > 1:
        built["differences"] = differences_table(cells)
    with locked("tables"), writing(paths.PAPER_TABLES) as fresh:
        fresh.mkdir()
        write_tables(fresh, built)


def _networks(params: Params) -> dict[str, Path]:
    """Return the folders of the run's networks, by the names that the table of parameters has."""
    code = {"table": "code_table", "encoder": "encoder"}.get(params.model.code)
    networks = {"U-Net": paths.PATCHDM / "unet"}
    if code:
        networks |= {params.model.code: paths.PATCHDM / code, "latent model": paths.LATENT}
    return networks


if __name__ == "__main__":
    run_stage(tables)
