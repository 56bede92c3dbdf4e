"""Flow train: the image model, then the latent model."""

from __future__ import annotations

import sys
from typing import Annotated

from prefect import flow
from pydantic import Field

from patchdm.config import Train
from pipelines.command import main
from pipelines.engine import bring_up_to_date
from pipelines.errors import FlowError
from pipelines.estimate import read_params, show_estimate
from pipelines.orphans import begin
from pipelines.place import Place

LAUNCHED = "train_patchdm"
TRAININGS = [LAUNCHED, "train_latent"]


@flow(name="train", persist_result=False)
def train(
    num_processes: Annotated[int, Field(ge=1)] = 1,
    place: Place = Place(),  # noqa: B008
    tflops: Annotated[float, Field(gt=0)] = 0.05,
) -> None:
    """Train both models with all they read from.

    Args:
        num_processes: of the image model's training, which share every batch: one a GPU, or
            without GPUs sharing `base.threads`.
        place: where stages run and how many at a time.
        tflops: 10^12 operations a second that the device achieves, for the estimate.
    """
    root = begin()
    params = read_params(root)
    _check_processes(num_processes, params.train, place)
    show_estimate(root, params, tflops)
    several = {LAUNCHED: num_processes} if num_processes > 1 else None
    bring_up_to_date(TRAININGS, place, several)


def _check_processes(number: int, train: Train, place: Place) -> None:
    if number == 1:
        return
    shares = train.batch_size // (train.micro_batch_size or 1)
    if shares % number:
        raise FlowError(
            f"num_processes is {number}, expected divisors of {shares} "
            f"(train.batch_size / train.micro_batch_size)"
        )
    if place.runner != "threads":
        raise FlowError(f"num_processes is {number}, expected 1 with place.runner {place.runner}")
    from torch import cuda  # noqa: PLC0415 - seconds

    if cuda.is_available() and number > cuda.device_count():
        raise FlowError(
            f"num_processes is {number}, expected at most the {cuda.device_count()} GPUs here"
        )


if __name__ == "__main__":
    main(train, sys.argv[1:])
