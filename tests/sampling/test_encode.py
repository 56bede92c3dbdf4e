"""The global code of an image without one of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from patchdm.diffusion.loss import cut_windows, window_losses
from patchdm.diffusion.schedules import paper_scheduler
from patchdm.models import CodeTable, PatchUNet, SemanticEncoder
from patchdm.sampling.encode import code_of_image
from tests.networks import awake, small_unet

P, SIDE, IMAGES, CODE = 4, 8, 4, 4


def colours() -> Tensor:
    """Return images whose colour only a code can tell from noise."""
    generator = torch.Generator().manual_seed(0)
    colour = torch.rand(IMAGES, 3, 1, 1, generator=generator) * 1.6 - 0.8
    return colour.expand(IMAGES, 3, SIDE, SIDE).contiguous()


def features_of(x0: Tensor) -> Tensor:
    """Stand in for a backbone: the mean colour, and twice the red."""
    mean = x0.mean(dim=(2, 3))
    return torch.cat([mean, 2 * mean[:, :1]], dim=1) + 3.0


def losses(unet: PatchUNet, x0: Tensor, codes: Tensor) -> Tensor:
    """Return the training loss (n,) of codes, over many equal draws each."""
    generator = torch.Generator().manual_seed(7)
    draws = 128
    t = torch.randint(1000, (draws,), generator=generator)
    noise = torch.randn(draws, 3, 2 * P, 2 * P, generator=generator)
    corner = torch.randint(SIDE // P, (draws, 2), generator=generator)
    found = []
    for image, code in zip(x0, codes, strict=True):
        window = cut_windows(image.expand(draws, 3, SIDE, SIDE), corner, corner, P)
        with torch.no_grad():
            terms = window_losses(
                unet, window, t, code.expand(draws, -1), noise=noise, scheduler=paper_scheduler()
            )
        found.append(sum(terms.values()).mean())
    return torch.stack(found)


@pytest.fixture(scope="module")
def model() -> tuple[PatchUNet, CodeTable]:
    """A network and codes trained together for seconds, as the image stage does."""
    unet = small_unet(patch_size=P, channels=(8,), cond_dim=CODE)
    x0 = colours()
    table = CodeTable.from_features(features_of(x0).numpy(), CODE, "colours")
    optimizer = torch.optim.Adam([*unet.parameters(), *table.parameters()], lr=8e-3)
    generator = torch.Generator().manual_seed(3)
    scheduler, batch = paper_scheduler(), 16
    for _ in range(300):
        images = torch.randint(IMAGES, (batch,), generator=generator)
        corner = torch.randint(SIDE // P, (batch, 2), generator=generator)
        t = torch.randint(1000, (batch,), generator=generator)
        noise = torch.randn(batch, 3, 2 * P, 2 * P, generator=generator)
        window = cut_windows(x0[images], corner, corner, P)
        terms = window_losses(unet, window, t, table(images), noise=noise, scheduler=scheduler)
        optimizer.zero_grad()
        sum(terms.values()).mean().backward()
        optimizer.step()
    return unet.eval(), table.requires_grad_(requires_grad=False)


def find(model: tuple[PatchUNet, CodeTable], x0: Tensor, features: Tensor, steps: int) -> Tensor:
    unet, table = model
    return code_of_image(
        table,
        unet,
        paper_scheduler(),
        x0,
        features,
        num_steps=steps,
        windows=8,
        learning_rate=0.05,
        generator=torch.Generator().manual_seed(5),
    )


def test_codes_start_from_features_as_those_of_the_table_did(model):
    x0 = colours()
    fresh = CodeTable.from_features(features_of(x0).numpy(), CODE, "colours")
    found = find(model, x0, features_of(x0), steps=0)
    torch.testing.assert_close(found, fresh.codes.detach())


def test_optimising_finds_the_code_of_an_image_from_that_of_another(model):
    """The features mislead: they are those of the next image."""
    unet, table = model
    x0, true = colours(), table.codes.detach()
    wrong = features_of(x0).roll(1, dims=0)
    start, found = (find(model, x0, wrong, steps) for steps in (0, 40))
    excess = [(losses(unet, x0, codes) - losses(unet, x0, true)) for codes in (start, found)]
    assert (excess[1] < excess[0]).all()
    assert excess[1].sum() < 0.2 * excess[0].sum()
    distance = [(codes - true).norm(dim=1).mean() for codes in (start, found)]
    assert distance[1] < 0.8 * distance[0]


def test_every_collage_mode_can_be_asked():
    x0 = colours()
    table = CodeTable.from_features(features_of(x0).numpy(), CODE, "colours")
    for mode in ("none", "pixel-fixed", "pixel-random"):
        unet = small_unet(patch_size=P, channels=(8,), cond_dim=CODE, collage=mode)
        found = find((unet, table), x0, features_of(x0), steps=1)
        assert (found - table.codes).abs().amax(dim=1).min() > 0.01


def test_optimising_changes_nothing_but_codes(model):
    unet, table = model
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    codes = table.codes.clone()
    features = features_of(colours())
    kept = features.clone()
    find(model, colours(), features, steps=2)
    assert all(torch.equal(value, before[name]) for name, value in unet.state_dict().items())
    assert torch.equal(table.codes, codes)
    assert torch.equal(features, kept)


def test_the_projection_travels_with_the_table(tmp_path: Path):
    features = np.random.default_rng(0).normal(2.0, 3.0, (9, 12)).astype(np.float32)
    CodeTable.from_features(features, 5, "some-backbone").save_pretrained(tmp_path)
    table = CodeTable.from_pretrained(tmp_path)
    assert table.config.backbone == "some-backbone"
    codes = table.start(torch.from_numpy(features))
    torch.testing.assert_close(codes, table.codes.detach(), atol=1e-5, rtol=0.0)
    torch.testing.assert_close(codes.T @ codes / 9, torch.eye(5), atol=1e-4, rtol=0.0)
    torch.testing.assert_close(codes.mean(dim=0), torch.zeros(5), atol=1e-5, rtol=0.0)


def test_few_images_fill_few_components():
    features = np.random.default_rng(0).normal(size=(4, 12)).astype(np.float32)
    codes = CodeTable.from_features(features, 8, "some-backbone").codes.detach()
    assert codes[:, :3].square().mean(dim=0).tolist() == pytest.approx([1.0] * 3, abs=1e-4)
    assert not codes[:, 3:].any()


def test_features_of_the_width_of_a_code_are_the_code(tmp_path: Path):
    features = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    CodeTable.from_features(features, 5, "some-backbone").save_pretrained(tmp_path)
    table = CodeTable.from_pretrained(tmp_path)
    assert torch.equal(table.codes, torch.from_numpy(features))
    assert torch.equal(table.start(table.codes), table.codes)
    assert [name for name, _ in table.named_buffers()] == []


def test_an_encoder_says_the_code_itself(model):
    unet, _ = model
    encoder = SemanticEncoder(channels=(8, 8), res_blocks=1, norm_groups=4, code_dim=CODE)
    encoder = awake(encoder).eval()
    x0 = colours()
    found = code_of_image(
        encoder,
        unet,
        paper_scheduler(),
        x0,
        None,
        num_steps=1,
        windows=1,
        learning_rate=1.0,
        generator=torch.Generator(),
    )
    assert torch.equal(found, encoder(x0))
    assert not found.requires_grad


def test_a_table_needs_features(model):
    with pytest.raises(ValueError, match="a code table needs those of colours"):
        find(model, colours(), None, steps=1)
