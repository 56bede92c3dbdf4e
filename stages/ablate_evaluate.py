"""Stage ablate_evaluate: sample and measure one cell of the ablation, as the run's are."""

from __future__ import annotations

from patchdm.config import Params
from stages._cells import cell_run, run_cell_stage
from stages._common import ABLATION_METRICS, ABLATIONS, LATENT, METRICS, PATCHDM, SAMPLES, locked
from stages.evaluate import evaluate
from stages.sample import sample


def ablate_evaluate(params: Params, name: str) -> None:
    """Write data/ablations/NAME/samples/ and reports/ablations/NAME.json of a cell."""
    folder = ABLATIONS / name
    places = {PATCHDM: folder / "models/patchdm", LATENT: folder / "models/latent"}
    places |= {SAMPLES: folder / "samples", METRICS: ABLATION_METRICS / f"{name}.json"}
    cell = cell_run("ablate_evaluate", name, places)
    with locked(f"ablate_evaluate/{name}"):
        sample(params, cell)
        evaluate(params, cell)


if __name__ == "__main__":
    run_cell_stage(ablate_evaluate)
