"""Stage ablate_evaluate: sample and measure one cell of the ablation, as the run's are."""

from __future__ import annotations

from patchdm.ablation import VARIANTS
from patchdm.config import Params
from stages import _common as paths
from stages._cells import measured_run, run_cell_stage
from stages._common import locked
from stages.evaluate import evaluate
from stages.sample import sample


def ablate_evaluate(params: Params, name: str) -> None:
    """Write data/ablations/NAME/samples/ and reports/ablations/NAME.json of a cell."""
    cell = measured_run(
        "ablate_evaluate",
        name,
        models=paths.ABLATIONS / name / "models",
        samples=paths.ABLATIONS / name / "samples",
        metrics=paths.ABLATION_METRICS / f"{name}.json",
    )
    with locked(f"ablate_evaluate/{name}"):
        sample(params, cell)
        evaluate(params, cell)


if __name__ == "__main__":
    run_cell_stage(ablate_evaluate, VARIANTS)
