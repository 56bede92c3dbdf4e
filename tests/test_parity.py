"""Is this Patch-DM? The authors' numbers from our code (tests/golden/README.md)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from patchdm.diffusion import training_loss
from patchdm.diffusion.schedules import latent_scheduler, paper_scheduler
from patchdm.grid import collage, positions, split
from patchdm.official import OfficialModels, load_official
from patchdm.pipeline import PatchDMPipeline
from patchdm.sampling import predict_eps, sample_codes
from tests.golden.official import PATCH_SIZE, golden_numbers, golden_state

NETWORK = {"atol": 1e-4, "rtol": 0.0}
TEN_STEPS = {"atol": 1e-3, "rtol": 0.0}


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return golden_numbers()


@pytest.fixture(scope="module")
def models() -> OfficialModels:
    models = load_official(golden_state(), patch_size=PATCH_SIZE)
    for model in (models.unet, models.encoder, models.latent):
        assert model is not None
        model.requires_grad_(requires_grad=False)
    return models


@pytest.mark.parametrize("rows_per_chunk", [None, 1])
@pytest.mark.parametrize(("key", "guidance_scale"), [("eps", None), ("eps_uncond", -1.0)])
def test_eps(golden, models, key: str, guidance_scale: float | None, rows_per_chunk: int | None):
    # At w = -1 only the prediction without code and position is left.
    eps = predict_eps(
        models.unet,
        golden["eps/x_t"],
        golden["eps/t"],
        golden["eps/cond"],
        guidance_scale=guidance_scale,
        rows_per_chunk=rows_per_chunk,
    )
    assert_close(eps, golden[f"eps/{key}"], **NETWORK)


def test_unet_is_the_canvas_denoiser(golden, models):
    eps = models.unet(golden["eps/x_t"], golden["eps/t"], golden["eps/cond"]).sample
    assert_close(eps, golden["eps/eps"], **NETWORK)


def test_training_predictions(golden, models):
    unet, t, cond = models.unet, golden["train/t"], golden["train/cond"]
    p, (row, col) = PATCH_SIZE, golden["train/window"].tolist()
    pad = torch.nn.ZeroPad2d(p // 2)
    inside = pad(torch.ones_like(golden["train/x0"]))
    x_t = paper_scheduler().add_noise(pad(golden["train/x0"]), golden["train/noise"], t) * inside
    window = x_t[..., row * p : (row + 2) * p, col * p : (col + 2) * p]
    corner = torch.tensor([[row, col]])
    plain = corner + positions(1, 1, shifted=False)
    features = unet.encode(split(window, p), t, plain, cond)
    assert_close(unet.decode(features, t, plain, cond), golden["train/pred_unshifted"], **NETWORK)
    maps = [collage(z, 1, 1) for z in features]
    shifted = unet.decode(maps, t, corner + 0.5, cond)
    assert_close(shifted, golden["train/pred_shifted"], **NETWORK)


@pytest.mark.parametrize("per_image", [False, True])
def test_training_loss(golden, models, per_image: bool):
    window = golden["train/window"]
    loss = training_loss(
        models.unet,
        golden["train/x0"],
        golden["train/t"],
        golden["train/cond"],
        noise=golden["train/noise"],
        window=window.expand(2, 2) if per_image else tuple(window.tolist()),
    )
    assert_close(loss, golden["train/loss"], **NETWORK)


@pytest.mark.parametrize(("key", "guidance_scale"), [("ddim", 0.0), ("ddim_cfg", 0.5)])
def test_ten_ddim_steps(golden, models, key: str, guidance_scale: float):
    x_T = golden[f"{key}/x_T"]
    images = PatchDMPipeline(models.unet, paper_scheduler())(
        len(x_T),
        num_inference_steps=10,
        guidance_scale=guidance_scale,
        cond=golden["ddim/cond"],
        latents=x_T,
        output_type="latent",
    ).images
    assert_close(images, golden[f"{key}/x_0"], **TEN_STEPS)


def test_encoder(golden, models):
    assert_close(models.encoder(golden["encoder/image"]), golden["encoder/cond"], **NETWORK)


def test_latent(golden, models):
    eps = models.latent(golden["latent/z_t"], golden["latent/t"])
    assert_close(eps, golden["latent/eps"], **NETWORK)


def test_ten_latent_steps(golden, models):
    codes = sample_codes(models.latent, latent_scheduler(), golden["latent/z_T"], num_steps=10)
    size = golden["latent/z_0"].abs().max()
    assert_close(codes / size, golden["latent/z_0"] / size, **NETWORK)


@pytest.mark.parametrize("make", [paper_scheduler, latent_scheduler])
@pytest.mark.parametrize("num_steps", [20, 50, 100])
def test_time_steps(golden, make, num_steps: int):
    scheduler = make()
    scheduler.set_timesteps(num_steps)
    assert scheduler.timesteps.flip(0).tolist() == golden[f"timesteps/ddim{num_steps}"].tolist()


@pytest.mark.parametrize(
    ("key", "make"), [("linear", paper_scheduler), ("const0.008", latent_scheduler)]
)
def test_betas(golden, key: str, make):
    betas = golden[f"betas/{key}"]
    assert_close(make().betas.double(), betas, atol=0.0, rtol=1e-6)
