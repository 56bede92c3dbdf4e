"""Inpainting: what is known stays, and what is made follows from it."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor
from torch.testing import assert_close

from patchdm.diffusion.schedules import paper_scheduler
from patchdm.sampling.inpaint import inpaint
from patchdm.sampling.solve import Predict
from patchdm.sampling.tilings import Step

STEPS = 10


def scheduler(**changes: object) -> DDIMScheduler:
    made = DDIMScheduler.from_config(paper_scheduler().config, **changes)
    made.set_timesteps(STEPS)
    return made


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def sees(x0: Tensor) -> Predict:
    """Return a network that sees x0 through any noise."""

    def predict(x_t: Tensor, step: Step) -> Tensor:
        a = scheduler().alphas_cumprod[step.t]
        return (x_t - a.sqrt() * x0) / (1 - a).sqrt()

    return predict


def run(predict: Predict, known: Tensor, mask: Tensor, **changes: object) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    options = {"scheduler": scheduler(), "resamplings": 1, "blend_width": 0} | changes
    return inpaint(
        predict,
        options.pop("scheduler"),
        known,
        mask,
        torch.randn(known.shape, generator=generator),
        lambda: torch.randn(known.shape, generator=generator),
        **options,
    )


@pytest.fixture
def known() -> Tensor:
    return gaussian(2, 3, 8, 12, seed=5).clamp(-1, 1)


@pytest.fixture
def mask() -> Tensor:
    """The right half of one image, a hole in the other."""
    mask = torch.zeros(2, 1, 8, 12, dtype=torch.bool)
    mask[0, ..., 6:] = True
    mask[1, :, 3:6, 4:8] = True
    return mask


def test_with_nothing_known_it_is_plain_sampling():
    def predict(x_t: Tensor, step: Step) -> Tensor:
        return x_t.roll(1, dims=3) * 0.9 + step.t / 1000 + step.index / 100

    solver, x_t = scheduler(), gaussian(2, 3, 4, 4, seed=1)
    for index, t in enumerate(solver.timesteps):
        output = predict(x_t, Step(t, index, STEPS))
        x_t = solver.step(output, t, x_t, use_clipped_model_output=True).prev_sample
    everything = torch.ones(2, 1, 4, 4, dtype=torch.bool)
    found = run(predict, gaussian(2, 3, 4, 4), everything, blend_width=2)
    assert torch.equal(found, x_t)


@pytest.mark.parametrize("resamplings", [1, 3])
@pytest.mark.parametrize("blend_width", [0, 2])
def test_known_pixels_are_kept_exactly(known, mask, resamplings: int, blend_width: int):
    found = run(sees(-known), known, mask, resamplings=resamplings, blend_width=blend_width)
    assert torch.equal(found.where(~mask, known), known)
    made = mask.expand_as(found)
    assert (found - known)[made].abs().mean() > 0.5


@pytest.mark.parametrize("resamplings", [1, 3])
def test_a_network_that_sees_the_image_completes_it(known, mask, resamplings: int):
    found = run(sees(known), known, mask, resamplings=resamplings, blend_width=3)
    assert_close(found, known, atol=1e-4, rtol=0.0)


def test_masked_pixels_of_the_given_image_do_not_matter(known, mask):
    other = known.where(~mask, torch.tensor(7.0))
    options = {"resamplings": 2, "blend_width": 2}
    made = run(lambda x_t, *_: 0.9 * x_t, known, mask, **options)
    assert torch.equal(run(lambda x_t, *_: 0.9 * x_t, other, mask, **options), made)


@pytest.mark.parametrize("resamplings", [1, 3])
def test_the_network_sees_known_pixels_at_the_noise_of_each_step(resamplings: int):
    known, mask = torch.full((1, 3, 64, 64), 0.5), torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    mask[..., 40:] = True
    noises: list[Tensor] = []

    def predict(x_t: Tensor, step: Step) -> Tensor:
        a = scheduler().alphas_cumprod[step.t]
        noises.append(((x_t - a.sqrt() * known) / (1 - a).sqrt())[..., :40])
        return torch.zeros_like(x_t)

    run(predict, known, mask, resamplings=resamplings)
    assert len(noises) == STEPS * resamplings
    for noise in noises:
        assert noise.mean().abs() < 0.04
        assert noise.std() == pytest.approx(1, abs=0.03)
    renewed = not torch.allclose(noises[0], noises[-1], atol=0.1)
    assert renewed == (resamplings > 1)


def test_the_difference_at_the_border_fades_into_the_mask():
    """The network sees 0 where 0.4 is known: a hard step, or a ramp of blend_width pixels."""
    known = torch.full((1, 1, 4, 8), 0.4)
    mask = torch.zeros(1, 1, 4, 8, dtype=torch.bool)
    mask[..., 3:] = True
    network = sees(torch.zeros_like(known))
    hard = run(network, known, mask)
    assert_close(hard[0, 0, 0], torch.tensor([0.4] * 3 + [0.0] * 5), atol=1e-5, rtol=0.0)
    soft = run(network, known, mask, blend_width=3)
    ramp = torch.tensor([0.4] * 3 + [0.3, 0.2, 0.1, 0.0, 0.0])
    assert_close(soft[0, 0, 0], ramp, atol=1e-2, rtol=0.0)


def test_resampling_nears_the_conditional_distribution():
    """The exact network of two Gaussian pixels of correlation r: one known, r times it is due."""
    r, n = 0.9, 4000
    solver = scheduler(clip_sample=False)
    solver.set_timesteps(50)
    covariance = torch.tensor([[1.0, r], [r, 1.0]])

    def predict(x_t: Tensor, step: Step) -> Tensor:
        a = solver.alphas_cumprod[step.t]
        return (1 - a).sqrt() * x_t @ torch.linalg.inv(a * covariance + (1 - a) * torch.eye(2))

    known = gaussian(n, 1, 1, 2)
    mask = torch.tensor([False, True]).expand(n, 1, 1, 2)
    slopes = []
    for resamplings in (1, 4, 16):
        found = run(predict, known, mask, scheduler=solver, resamplings=resamplings)
        given, made = found.flatten(1).T
        slopes.append((given @ made / given.square().sum()).item())
    assert slopes[0] < 0.6 < slopes[1]
    assert slopes[2] == pytest.approx(r, abs=0.05)
    assert made.std() == pytest.approx(1, abs=0.1)
