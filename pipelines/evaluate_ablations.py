"""Flow evaluate-ablations: every variant at every seed, then the tables that compare them."""

from __future__ import annotations

import sys
from typing import Annotated

from prefect import flow
from pydantic import Field

from patchdm.config import load_params
from pipelines.command import main
from pipelines.engine import bring_up_to_date
from pipelines.errors import FlowError
from pipelines.estimate import PARAMS, show_estimate
from pipelines.orphans import begin
from pipelines.place import Place


@flow(name="evaluate-ablations", persist_result=False)
def evaluate_ablations(
    place: Place = Place(),  # noqa: B008
    tflops: Annotated[float, Field(gt=0)] = 0.05,
) -> None:
    """Train, sample and evaluate the cells of `ablation` in params.yaml, then make the tables.

    Args:
        place: where stages run and how many at a time.
        tflops: 10^12 operations per second that the device achieves, for the estimate.
    """
    root = begin()
    params = load_params(root / PARAMS)
    cells = len(params.ablation.variants) * len(params.ablation.seeds)
    if not cells:
        raise FlowError(f"{PARAMS}: ablation.variants is empty, there is nothing to evaluate")
    show_estimate(root, params, tflops, cells=cells)
    bring_up_to_date(["ablate_evaluate", "tables"], place)


if __name__ == "__main__":
    main(evaluate_ablations, sys.argv[1:])
