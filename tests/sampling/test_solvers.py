"""Every solver of diffusers that denoises by a model's noise schedule, and no other."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler, SchedulerMixin
from torch import Tensor
from torch.testing import assert_close

from patchdm.diffusion.schedules import paper_scheduler
from patchdm.models import PatchUNet
from patchdm.pipeline import PatchDMPipeline
from patchdm.sampling.solvers import begin
from tests.small_pipeline import images, pipeline

P = 16
SPREAD = 0.2


class Gaussian(PatchUNet):
    """The perfect network for images of independent pixels N(0, SPREAD**2)."""

    alphas = paper_scheduler().alphas_cumprod

    def encode(self, patches, t, positions, cond):  # noqa: ARG002
        return [patches]

    def decode(self, features, t, positions, cond):  # noqa: ARG002
        alpha = self.alphas[t.long()]
        factor = (1 - alpha).sqrt() / variance(alpha)
        (x_t,) = features
        return x_t * factor.repeat_interleave(len(x_t) // len(t))[:, None, None, None]


def variance(alpha: Tensor) -> Tensor:
    """Variance of a noisy pixel."""
    return alpha * SPREAD**2 + 1 - alpha


def solved(name: str, num_steps: int = 250, **config: Any) -> tuple[Tensor, Tensor]:
    """Return x_T and x_0 by one of diffusers' solvers."""
    kind: type[SchedulerMixin] = getattr(diffusers, name)
    solver = kind.from_config(paper_scheduler().config, **config)
    network = Gaussian(patch_size=P, channels=(8, 16))
    network.alphas = getattr(solver, "alphas_cumprod", network.alphas)
    pipe = PatchDMPipeline(network, solver)
    pipe.set_progress_bar_config(disable=True)
    x_T = torch.randn(2, 3, P, 2 * P, generator=torch.Generator().manual_seed(0))
    inputs = {"height": P, "width": 2 * P, "latents": x_T, "output_type": "latent"}
    generator = torch.Generator().manual_seed(1)
    return x_T, pipe(2, num_inference_steps=num_steps, generator=generator, **inputs).images


@pytest.mark.parametrize(
    "name",
    [
        "DDIMScheduler",
        "DPMSolverMultistepScheduler",
        "DPMSolverSinglestepScheduler",
        "UniPCMultistepScheduler",
        "EulerDiscreteScheduler",
        "HeunDiscreteScheduler",
        "PNDMScheduler",
    ],
)
def test_solvers_reach_the_solution(name: str):
    """The probability flow of Gaussian images is known: they shrink. DDIM is 0.021 off."""
    x_T, x_0 = solved(name)
    start = paper_scheduler().alphas_cumprod[-1]
    expected = x_T * SPREAD / variance(start).sqrt()
    assert_close(x_0, expected, atol=0.025, rtol=0.0)


@pytest.mark.parametrize("sigmas", ["use_karras_sigmas", "use_exponential_sigmas"])
@pytest.mark.parametrize(
    "name",
    [
        "DEISMultistepScheduler",
        "DPMSolverMultistepScheduler",
        "DPMSolverSinglestepScheduler",
        "UniPCMultistepScheduler",
        "HeunDiscreteScheduler",
    ],
)
def test_spread_sigmas_reach_the_solution(name: str, sigmas: str):
    """Of a cosine schedule the first steps share a time there. Differences in levels of 255."""
    cosine = {"beta_schedule": "squaredcos_cap_v2"}
    expected = solved("DDIMScheduler", 500, **cosine)[1]
    found = solved(name, 100, **cosine, **{sigmas: True})[1]
    assert (found - expected).abs().mean() * 127.5 < 0.5


@pytest.mark.parametrize(
    "name",
    [
        "FlowMatchEulerDiscreteScheduler",
        "EDMEulerScheduler",
        "IPNDMScheduler",
        "CMStochasticIterativeScheduler",
        "ScoreSdeVeScheduler",
        "RePaintScheduler",
        "DDIMInverseScheduler",
    ],
)
def test_schedulers_that_cannot_denoise_are_named(name: str):
    with pytest.raises(ValueError, match=f"`scheduler` is a {name}, expected a solver"):
        solved(name, 10)


def test_sigmas_that_leave_the_schedule_out_are_named():
    """As beta sigmas do where the last signal-to-noise ratio is near zero."""

    class Jumping(DPMSolverMultistepScheduler):
        def set_timesteps(self, num_inference_steps: int) -> None:
            super().set_timesteps(num_inference_steps)
            self.timesteps = torch.tensor([998] * (num_inference_steps - 1) + [3])

    jumping = Jumping.from_config(paper_scheduler().config)
    with pytest.raises(ValueError, match="jumps from t = 998 to 3, expected sigmas that spread"):
        begin(jumping, 10)


@pytest.mark.parametrize("name", ["DDPMScheduler", "EulerAncestralDiscreteScheduler"])
def test_solvers_that_add_noise(name: str):
    x_T, x_0 = solved(name)
    assert abs(x_0.std() / SPREAD - 1) < 0.1
    assert abs((x_T * x_0).mean()) < 0.5 * SPREAD, "noise was replaced"
    assert torch.equal(x_0, solved(name)[1]), "all noise comes from the generator"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta_schedule": "squaredcos_cap_v2"}, "beta_schedule 'squaredcos_cap_v2', expected '"),
        ({"prediction_type": "v_prediction"}, "prediction_type 'v_prediction', expected 'epsilon'"),
        ({"num_train_timesteps": 100}, "num_train_timesteps 100, expected 1000"),
    ],
    ids=str,
)
def test_schedules_that_were_not_learnt_are_named(change: dict[str, Any], message: str):
    pipe = pipeline()
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config, **change)
    with pytest.raises(ValueError, match=f"`scheduler` has {message}"):
        images(pipe)
    photograph = torch.zeros(1, 3, P, 2 * P)
    with pytest.raises(ValueError, match="EulerDiscreteScheduler.from_config"):
        pipe.inpaint(photograph, torch.ones(P, 2 * P, dtype=torch.bool))
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipeline().scheduler.config)
    images(pipe)


@pytest.mark.parametrize("solver", [DPMSolverMultistepScheduler, EulerDiscreteScheduler])
def test_more_steps_than_were_trained_are_refused(solver: type[SchedulerMixin]):
    scheduler = solver.from_config(paper_scheduler().config)
    with pytest.raises(ValueError, match="`num_inference_steps` is 1001, expected at most 1000"):
        begin(scheduler, 1001)
