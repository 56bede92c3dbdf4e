"""How far a job is: each prediction of the network, and the image that it means."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from PIL import Image
from torch import Tensor

from patchdm.app.jobs import CancelledError, Clock, Job, Jobs
from patchdm.formats.tensors import to_uint8
from patchdm.pipeline import PatchDMPipeline
from patchdm.sampling.solve import Predict
from patchdm.sampling.tilings import Step

PREVIEW_SIDE = 768
"""Longest side of a preview, in pixels."""


@contextlib.contextmanager
def watched(
    pipe: PatchDMPipeline, job: Job, jobs: Jobs, rounds: int, row: Callable[[], int]
) -> Iterator[None]:
    """Tell a job of every prediction of the network within, with the x_0 that it implies.

    A job that is told to stop does so at the next use of the network, which also fits codes.

    Args:
        pipe: the model.
        job, jobs: what is done.
        rounds: how often all steps are gone through.
        row: which image of a batch is shown.
    """
    unwatched, encode = pipe.denoiser, pipe.unet.encode
    clock: list[Clock] = []
    done, last = 0, -1  # rounds, and the step before

    def stoppable(*given: Any, **options: Any) -> Any:
        if job.stop.is_set():
            raise CancelledError
        return encode(*given, **options)

    def denoiser(*given: Any, **options: Any) -> Predict:
        predict = unwatched(*given, **options)

        def seen(x_t: Tensor, step: Step) -> Tensor:
            nonlocal done, last
            found = predict(x_t, step)
            done, last = done + (step.index < last), step.index
            if not clock:
                clock.append(Clock(rounds * step.count))
            jobs.told(
                job,
                phase="",
                step=step.index + 1,
                steps=step.count,
                seconds_left=clock[0].at(done * step.count + step.index + 1),
                preview=png(x_0(pipe.scheduler, x_t, found, step.t, row())),
            )
            return found

        return seen

    # Over the methods of the classes, until they are deleted.
    pipe.denoiser = denoiser  # type: ignore[assignment, method-assign]
    pipe.unet.encode = stoppable
    try:
        yield
    finally:
        del pipe.denoiser, pipe.unet.encode


def fitted(job: Job, jobs: Jobs, steps: Sequence[int]) -> Iterator[int]:
    """Yield the steps of the fit of a code, and tell a job of them."""
    for number, step in enumerate(steps):
        jobs.told(job, phase="fit", step=number, steps=len(steps), seconds_left=None)
        yield step


def x_0(scheduler: Any, x_t: Tensor, predicted: Tensor, t: Tensor, row: int) -> Tensor:
    """Return the image (C, H, W) that a row of a prediction means (PAPER section 1)."""
    a = scheduler.alphas_cumprod[t.long().cpu()].item()
    signal, noise = a**0.5, (1 - a) ** 0.5
    x, found = x_t[row].float().cpu(), predicted[row].float().cpu()
    if scheduler.config.prediction_type == "v_prediction":
        return signal * x - noise * found
    return (x - noise * found) / signal


def png(image: Tensor) -> bytes:
    """Return an image (3, H, W) as a PNG of at most `PREVIEW_SIDE` pixels."""
    picture = Image.fromarray(to_uint8(image[None])[0])
    picture.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
