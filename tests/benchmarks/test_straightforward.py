"""The baseline of the benchmarks computes what the library computes."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from benchmarks import straightforward
from benchmarks._weights import renamed, straightforward_like
from patchdm.diffusion.loss import Window, window_losses
from patchdm.diffusion.schedules import paper_scheduler
from patchdm.models import PatchUNet
from patchdm.pipeline import PatchDMPipeline
from patchdm.sampling import predict_eps
from tests.networks import small_unet

BATCH, ROWS, COLS = 2, 2, 3

NETWORKS = {
    "paper-like": {"channels": (8, 16), "attention_levels": (1,), "cond_dim": 16, "patch_size": 8},
    "demo-like": {"pixel_fold": 2, "res_blocks": 2, "patch_size": 16},
}
TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture(params=NETWORKS.values(), ids=NETWORKS)
def pair(request) -> tuple[PatchUNet, straightforward.UNet]:
    """One network, twice."""
    unet = small_unet(**request.param).requires_grad_(requires_grad=False)
    baseline = straightforward_like(unet)
    return unet, baseline.requires_grad_(requires_grad=False)


@pytest.fixture
def cond(pair) -> torch.Tensor:
    return noise(BATCH, pair[0].config.cond_dim)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def test_it_has_as_many_parameters(pair):
    unet, baseline = pair
    assert sum(map(torch.numel, baseline.parameters())) == unet.num_parameters()


def test_predictions_are_equal(pair, cond):
    unet, baseline = pair
    p = baseline.patch_size
    x_t, t = noise(BATCH, 3, ROWS * p, COLS * p), torch.tensor([3, 800])
    found = straightforward.predict_eps(baseline, x_t, t, cond)
    assert_close(found, predict_eps(unet, x_t, t, cond), **TOLERANCE)


def test_samples_are_equal(pair, cond):
    unet, baseline = pair
    p, scheduler = baseline.patch_size, paper_scheduler()
    x_T = noise(BATCH, 3, ROWS * p, COLS * p)
    pipe = PatchDMPipeline(unet, scheduler)
    pipe.set_progress_bar_config(disable=True)
    expected = pipe(
        BATCH, latents=x_T, cond=cond, num_inference_steps=4, output_type="latent"
    ).images
    found = straightforward.sample(baseline, scheduler, x_T, cond, 4)
    assert_close(found, expected, atol=1e-4, rtol=1e-4)  # four predictions, each to 1e-5


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_a_training_step_descends_the_loss_of_the_library(pair, prediction_type):
    unet, baseline = (network.requires_grad_() for network in pair)
    scheduler = paper_scheduler()
    scheduler.register_to_config(prediction_type=prediction_type)
    codes = nn.Embedding(5, unet.config.cond_dim)
    parameters = [*baseline.parameters(), *codes.parameters()]
    averages = [parameter.detach().clone() for parameter in parameters]
    side = 2 * baseline.patch_size
    batch = {
        "x0": noise(BATCH, 3, side, side).clamp(-1, 1),
        "inside": (noise(BATCH, 1, side, side) > 0).float(),
        "corner": torch.tensor([[0.0, 2.0], [1.0, 0.0]]),
        "t": torch.tensor([3, 800]),
        "noise": noise(BATCH, 3, side, side) + 0.1,
        "image": torch.tensor([4, 1]),
    }
    window = Window(
        batch["x0"], batch["inside"], batch["corner"], torch.zeros(BATCH, 2, dtype=torch.int64)
    )
    losses = window_losses(
        unet,
        window,
        batch["t"],
        codes(batch["image"]).detach(),
        noise=batch["noise"],
        scheduler=scheduler,
    )
    expected = torch.stack(list(losses.values())).sum(dim=0).mean()
    expected.backward()
    own = dict(unet.named_parameters())
    before_step = renamed(baseline, {name: weight.detach() for name, weight in own.items()})
    gradients = [weight.grad for weight in own.values()]
    expected_gradients = renamed(baseline, {name: weight.grad for name, weight in own.items()})
    norm = nn.utils.get_total_norm(gradients).item()

    loss = straightforward.train_step(
        baseline,
        codes,
        averages,
        torch.optim.SGD(parameters, lr=1.0),
        scheduler,
        batch,
        ema_decay=0.75,
        grad_clip=1e9,
    )
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    for weight, before, gradient, average in zip(
        baseline.parameters(),
        before_step.values(),
        expected_gradients.values(),
        averages[:-1],
        strict=True,
    ):
        assert_close(weight, before - gradient, atol=1e-5 * norm, rtol=0.0)
        assert_close(average, 0.75 * before + 0.25 * weight, **TOLERANCE)
    assert averages[-1][4].ne(codes.weight[4]).all()
    assert averages[-1][0].equal(codes.weight[0])  # an image that was not in the batch
