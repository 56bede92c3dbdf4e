"""Sampling: image i depends on seed i alone, and a network samples the way it was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from patchdm.diffusion.schedules import latent_scheduler, paper_scheduler
from patchdm.models import LatentMLP
from patchdm.pipeline import PatchDMPipeline
from patchdm.sampling import predict_eps
from patchdm.sampling.generate import generators, tiling_of_step
from tests.networks import awake, small_unet

P, HEIGHT, WIDTH = 8, 16, 24
MODES = ["feature", "none", "pixel-fixed", "pixel-random"]
CENTRE = (P // 2, P // 2)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Folders as the training stages write them: `image` for each mode, and `latent`."""
    for mode in MODES:
        small_unet(collage=mode).save_pretrained(tmp_path / mode / "unet")
        paper_scheduler().save_pretrained(tmp_path / mode / "scheduler")
    torch.manual_seed(1)
    latent = awake(LatentMLP(code_dim=6, layers=2, hidden=8, time_channels=8))
    latent.save_pretrained(tmp_path / "latent/latent")
    latent_scheduler().save_pretrained(tmp_path / "latent/scheduler")
    return tmp_path


def load(models: Path, mode: str, *, latent: bool = True) -> PatchDMPipeline:
    pipe = PatchDMPipeline.from_stages(models / mode, models / "latent" if latent else None)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def sample(pipe: PatchDMPipeline, seeds: list[int], **options: Any) -> Tensor:
    return pipe(
        len(seeds),
        HEIGHT,
        WIDTH,
        generator=generators(seeds),
        output_type="latent",
        **{"num_inference_steps": 3, "latent_num_inference_steps": 2} | options,
    ).images


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("latent", [True, False])
def test_image_i_depends_on_seed_i_alone(models: Path, mode: str, latent: bool):
    pipe = load(models, mode, latent=latent)
    together = sample(pipe, [5, 6, 7])
    assert together.shape == (3, 3, HEIGHT, WIDTH)
    assert_close(sample(pipe, [7]), together[2:], atol=1e-5, rtol=0.0)
    assert_close(sample(pipe, [6, 5]).flip(0), together[:2], atol=1e-5, rtol=0.0)
    assert not torch.allclose(together[0], together[1], atol=0.1)


def test_a_loaded_model_samples_the_way_it_was_trained(models: Path):
    images = {mode: sample(load(models, mode), [3]) for mode in MODES}
    alternate = sample(load(models, "feature"), [3], tiling="alternate")
    everything = [*images.values(), alternate]
    for i, one in enumerate(everything):
        for other in everything[i + 1 :]:
            assert not torch.allclose(one, other, atol=1e-3)


def test_sampling_steps_with_the_tilings_of_the_mode(models: Path):
    """Two DDIM steps by hand: eps is recomputed from the clipped x0 (PAPER, Sampling)."""
    pipe = load(models, "pixel-fixed", latent=False)
    images = sample(pipe, [0], num_inference_steps=2)
    x_t = torch.randn(1, 3, HEIGHT, WIDTH, generator=generators([0])[0])
    a = pipe.scheduler.alphas_cumprod
    with torch.no_grad():
        for t, previous, tiling in ((500, a[0], (0, 0)), (0, torch.tensor(1.0), CENTRE)):
            eps = predict_eps(pipe.unet, x_t, torch.tensor([t]), None, tiling=tiling)
            x0 = ((x_t - (1 - a[t]).sqrt() * eps) / a[t].sqrt()).clamp(-1, 1)
            eps = (x_t - a[t].sqrt() * x0) / (1 - a[t]).sqrt()
            x_t = previous.sqrt() * x0 + (1 - previous).sqrt() * eps
    assert_close(images, x_t, atol=1e-4, rtol=0.0)


def tilings(mode: str, tiling: str = "shifted", steps: int = 50) -> list[object]:
    unet = small_unet(collage=mode)
    return [tiling_of_step(unet, tiling, index, steps) for index in range(steps)]


def test_tilings_of_feature_collage():
    assert set(tilings("feature")) == {"shifted"}
    assert set(tilings("feature", "blend")) == {"blend"}
    assert tilings("feature", "alternate", 4) == [(0, 0), "shifted", (0, 0), "shifted"]
    assert tilings("feature", "alternate", 3) == ["shifted", (0, 0), "shifted"]


def test_tilings_without_collage():
    assert set(tilings("none")) == {CENTRE}
    assert tilings("pixel-fixed", steps=4) == [(0, 0), CENTRE, (0, 0), CENTRE]


def test_tilings_of_random_offsets():
    drawn = tilings("pixel-random", steps=400)
    assert drawn[:50] == tilings("pixel-random", steps=50)
    ys, xs = zip(*drawn, strict=True)
    assert set(ys) == set(xs) == set(range(1 - P // 2, P // 2 + 1))
    assert len(set(drawn)) == P * P
    counts = [drawn.count(offset) for offset in set(drawn)]
    assert max(counts) < 20  # 6 on average


@pytest.mark.parametrize("mode", MODES[1:])
def test_tilings_are_of_feature_collage(mode: str):
    assert tilings(mode, "alternate", 6) == tilings(mode, "blend", 6) == tilings(mode, steps=6)
