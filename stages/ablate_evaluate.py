"""Stage ablate_evaluate: sample and measure one cell of the ablation, as the run's are."""

from __future__ import annotations

import shutil

from patchdm.config import Params
from stages._cells import cell_folder, run_cell_stage, run_in
from stages._common import (
    ABLATION_METRICS,
    ABLATIONS,
    LATENT,
    METRICS,
    PATCHDM,
    PATCHES,
    REFERENCE,
    SAMPLES,
    publish,
    writing,
)


def ablate_evaluate(params: Params, cell: str) -> None:
    """Write data/ablations/CELL/samples/ and reports/ablations/CELL.json."""
    models = ABLATIONS / cell / "models"
    inputs = {PATCHES: PATCHES, REFERENCE: REFERENCE}
    inputs |= {PATCHDM: models / "patchdm", LATENT: models / "latent"}
    with cell_folder("ablate_evaluate", cell, params, inputs) as folder:
        run_in(folder, "stages.sample")
        run_in(folder, "stages.evaluate")
        publish(ABLATIONS / cell / "samples", {".": folder / SAMPLES})
        with writing(ABLATION_METRICS / f"{cell}.json") as fresh:
            shutil.copyfile(folder / METRICS, fresh)


if __name__ == "__main__":
    run_cell_stage(ablate_evaluate)
