"""Flow train: the image model, then the latent model."""

from __future__ import annotations

import sys
from typing import Annotated

from prefect import flow
from pydantic import Field

from patchdm.config import load_params
from pipelines.command import main
from pipelines.engine import bring_up_to_date
from pipelines.estimate import PARAMS, show_estimate
from pipelines.orphans import begin
from pipelines.place import Place


@flow(name="train", persist_result=False)
def train(
    place: Place = Place(),  # noqa: B008
    tflops: Annotated[float, Field(gt=0)] = 0.05,
) -> None:
    """Train both models and everything that they read.

    `machine.processes` of params.yaml sets the processes that share a training.

    Args:
        place: where stages run and how many at a time.
        tflops: 10^12 operations per second that the device achieves, for the estimate.
    """
    root = begin()
    show_estimate(root, load_params(root / PARAMS), tflops)
    bring_up_to_date(["train_patchdm", "train_latent"], place)


if __name__ == "__main__":
    main(train, sys.argv[1:])
