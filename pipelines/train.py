"""Flow train: the image model, then the latent model."""

from __future__ import annotations

import sys
from typing import Annotated

from prefect import flow
from pydantic import Field

from pipelines.command import main
from pipelines.engine import bring_up_to_date
from pipelines.errors import FlowError
from pipelines.estimate import read_params, show_estimate
from pipelines.orphans import begin
from pipelines.place import Place

TRAININGS = ["train_patchdm", "train_latent"]


@flow(name="train", persist_result=False)
def train(
    num_processes: Annotated[int, Field(ge=1)] = 1,
    place: Place = Place(),  # noqa: B008
    tflops: Annotated[float, Field(gt=0)] = 0.05,
) -> None:
    """Train both models with all they read from.

    Args:
        num_processes: of one training; more than one is refused.
        place: where stages run and how many at a time.
        tflops: 10^12 operations a second that the device achieves, for the estimate.
    """
    if num_processes > 1:
        # Draws and checkpoints of the training loop are those of one process.
        raise FlowError(f"num_processes is {num_processes}, allowed is 1: training is one process")
    root = begin()
    show_estimate(root, read_params(root), tflops)
    bring_up_to_date(TRAININGS, place)


if __name__ == "__main__":
    main(train, sys.argv[1:])
