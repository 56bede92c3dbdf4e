"""Stage ablate_sample: sample the networks of the variant full in another way, and measure it."""

from __future__ import annotations

from patchdm.ablation import SAMPLINGS
from patchdm.config import Params
from stages import _common as paths
from stages._cells import measured_run, run_cell_stage
from stages._common import locked
from stages.evaluate import evaluate
from stages.sample import sample


def ablate_sample(params: Params, name: str) -> None:
    """Write data/ablations/NAME/samples/ and reports/ablations/NAME.json of a cell."""
    cell = measured_run(
        "ablate_sample",
        name,
        models=paths.ABLATIONS / f"full-{params.base.seed}" / "models",
        samples=paths.ABLATIONS / name / "samples",
        metrics=paths.ABLATION_METRICS / f"{name}.json",
    )
    with locked(f"ablate_sample/{name}"):
        sample(params, cell)
        evaluate(params, cell)


if __name__ == "__main__":
    run_cell_stage(ablate_sample, SAMPLINGS)
