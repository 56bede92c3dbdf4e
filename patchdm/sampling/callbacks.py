"""What a caller of the pipeline is told after each step, and may change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from diffusers import DiffusionPipeline
from torch import Tensor

from patchdm.sampling.denoise import Denoiser
from patchdm.sampling.solve import Advance
from patchdm.sampling.tilings import Step

OnStepEnd = Callable[[DiffusionPipeline, int, Tensor, dict[str, Any]], dict[str, Any]]
"""(pipeline, step, time step, tensors) -> the tensors to go on with, as in diffusers."""


def on_step_end(
    pipe: DiffusionPipeline,
    denoiser: Denoiser,
    callback: OnStepEnd | None,
    tensor_inputs: Sequence[str],
) -> Advance | None:
    """Return what calls the caller's function after each step."""
    if callback is None:
        return None

    def on_step(x_t: Tensor, step: Step) -> Tensor:
        # A copy of the codes, so that a change in place is seen.
        codes = None if denoiser.cond is None else denoiser.cond.clone()
        tensors = {"latents": x_t, "cond": codes}
        given: dict[str, Any] = {name: tensors[name] for name in tensor_inputs}
        changed = given | callback(pipe, step.index, step.t, given)
        if "cond" in changed:
            denoiser.cond = changed["cond"]
        return changed.get("latents", x_t)

    return on_step
