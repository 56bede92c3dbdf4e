"""What a caller of the pipeline is told after each step, and may change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from diffusers import DiffusionPipeline
from torch import Tensor

from patchdm.sampling.denoise import Denoiser
from patchdm.sampling.solve import Advance
from patchdm.sampling.tilings import Step

OnStepEnd = Callable[[DiffusionPipeline, int, Tensor, dict[str, Any]], dict[str, Any]]
"""(pipeline, step, time step, tensors) -> the tensors to go on with, as in diffusers."""


class _Host(Protocol):
    """What a pipeline has for the mixin."""

    progress_bar: Callable[[Sequence[Step]], Any]
    _guidance_scale: float
    _interrupt: bool
    _num_timesteps: int


class RunningMixin:
    """What a pipeline says of the call that is running, by the names that diffusers has."""

    @property
    def guidance_scale(self: _Host) -> float:
        """The w of classifier-free guidance; a callback may change `_guidance_scale`."""
        return self._guidance_scale

    @property
    def num_timesteps(self: _Host) -> int:
        """Solver steps."""
        return self._num_timesteps

    @property
    def interrupt(self: _Host) -> bool:
        """Whether a callback has set `_interrupt`, so that no further step is made."""
        return self._interrupt

    def show_steps(self: _Host, steps: Sequence[Step]) -> Iterator[Step]:
        """Yield the steps under a progress bar, until the call is interrupted."""
        self._num_timesteps, self._interrupt = len(steps), False
        for step in self.progress_bar(steps):
            if self._interrupt:
                return
            yield step


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
