"""The global code of an image without one of its own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from patchdm.diffusion.loss import cut_windows, window_losses
from patchdm.diffusion.schedules import paper_scheduler
from patchdm.formats.images import Pixels
from patchdm.formats.tensors import to_tensor, to_uint8
from patchdm.models import CodeTable, PatchUNet, SemanticEncoder
from patchdm.sampling.encode import CodeFit, code_of_image
from patchdm.sampling.solve import generators
from tests.networks import awake, small_unet

P, SIDE, IMAGES, CODE = 4, 8, 4, 4


def colours() -> Tensor:
    """Return images whose colour only a code can tell from noise."""
    generator = torch.Generator().manual_seed(0)
    colour = torch.rand(IMAGES, 3, 1, 1, generator=generator) * 1.6 - 0.8
    colour = ((colour + 1) * 127.5).round() / 127.5 - 1  # levels of uint8
    return colour.expand(IMAGES, 3, SIDE, SIDE).contiguous()


def features_of(images: Pixels) -> np.ndarray:
    """Stand in for a backbone: the mean colour, and twice the red."""
    mean = to_tensor(images).mean(dim=(2, 3))
    return (torch.cat([mean, 2 * mean[:, :1]], dim=1) + 3.0).numpy()


def known_everywhere(x0: Tensor) -> Tensor:
    return torch.zeros_like(x0[:, :1], dtype=torch.bool)


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
    table = CodeTable.from_features(features_of(to_uint8(x0)), CODE, "colours")
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


def find(
    model: tuple[PatchUNet, CodeTable],
    x0: Tensor,
    steps: int,
    *,
    features: Callable[[Pixels], np.ndarray] = features_of,
    mask: Tensor | None = None,
    seeds: Sequence[int] = range(IMAGES),
) -> Tensor:
    unet, table = model
    return code_of_image(
        table,
        unet,
        paper_scheduler(),
        x0,
        mask=known_everywhere(x0) if mask is None else mask,
        fit=CodeFit(features, num_steps=steps, windows=8, learning_rate=0.05),
        generators=generators(seeds),
    )


def test_codes_start_from_features_as_those_of_the_table_did(model):
    x0 = colours()
    fresh = CodeTable.from_features(features_of(to_uint8(x0)), CODE, "colours")
    torch.testing.assert_close(find(model, x0, steps=0), fresh.codes.detach())


def test_optimising_finds_the_code_of_an_image_from_that_of_another(model):
    """The features mislead: they are those of the next image."""
    unet, table = model
    x0, true = colours(), table.codes.detach()
    start, found = (find(model, x0, steps, features=of_the_next) for steps in (0, 40))
    excess = [(losses(unet, x0, codes) - losses(unet, x0, true)) for codes in (start, found)]
    assert (excess[1] < excess[0]).all()
    assert excess[1].sum() < 0.2 * excess[0].sum()
    distance = [(codes - true).norm(dim=1).mean() for codes in (start, found)]
    assert distance[1] < 0.85 * distance[0]


def of_the_next(images: Pixels) -> np.ndarray:
    return np.roll(features_of(images), 1, axis=0)


def test_what_is_masked_does_not_matter(model):
    """One image beside another: the code is that of the half that is known."""
    x0 = colours()
    beside = torch.cat([x0, x0.roll(1, dims=0)], dim=3)
    mask = torch.cat([known_everywhere(x0), ~known_everywhere(x0)], dim=3)
    found = find(model, beside, 10, features=of_the_next, mask=mask)
    again = find(model, beside.where(~mask, -beside), 10, features=of_the_next, mask=mask)
    assert torch.equal(found, again)
    plain = find(model, torch.cat([x0, x0], dim=3), 10, features=of_the_next)
    assert (found - plain).abs().max() > 0  # fewer pixels count
    far = model[1].codes.detach().roll(1, dims=0)
    true = model[1].codes.detach()
    assert ((found - true).norm(dim=1) < (far - true).norm(dim=1)).all()


def test_the_code_of_an_image_depends_on_its_seed_alone(model):
    x0 = colours()
    together = find(model, x0, 5, seeds=range(7, 7 + IMAGES))
    for image in range(IMAGES):
        alone = find(model, x0[image : image + 1], 5, seeds=[7 + image])
        torch.testing.assert_close(alone, together[image : image + 1], atol=1e-4, rtol=0.0)
    assert (find(model, x0, 5) - together).abs().max() > 0.01


def test_steps_of_the_fit_are_shown(model):
    unet, table = model
    x0, shown = colours(), []

    def show(steps: Sequence[int]) -> Iterator[int]:
        for step in steps:
            yield step
            shown.append((step, len(steps)))

    options = {"mask": known_everywhere(x0), "generators": generators(range(IMAGES))}
    fit = CodeFit(features_of, num_steps=3, windows=8, learning_rate=0.05, show=show)
    found = code_of_image(table, unet, paper_scheduler(), x0, fit=fit, **options)
    assert shown == [(0, 3), (1, 3), (2, 3)]
    assert torch.equal(found, find(model, x0, steps=3))


def test_every_collage_mode_can_be_asked():
    x0 = colours()
    table = CodeTable.from_features(features_of(to_uint8(x0)), CODE, "colours")
    for mode in ("none", "pixel-fixed", "pixel-random"):
        unet = small_unet(patch_size=P, channels=(8,), cond_dim=CODE, collage=mode)
        found = find((unet, table), x0, steps=1)
        assert (found - table.codes).abs().amax(dim=1).min() > 0.01


def test_optimising_changes_nothing_but_codes(model):
    unet, table = model
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    codes = table.codes.clone()
    features = features_of(to_uint8(colours()))
    kept = features.copy()
    find(model, colours(), 2, features=lambda _images: features)
    assert all(torch.equal(value, before[name]) for name, value in unet.state_dict().items())
    assert torch.equal(table.codes, codes)
    np.testing.assert_array_equal(features, kept)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_network_of_lower_precision_fits_nearly_the_same_codes(model, dtype: torch.dtype):
    unet, table = model
    low = copy.deepcopy(unet).to(dtype)
    found, expected, start = (
        find((net, table), colours(), steps) for net, steps in [(low, 9), (unet, 9), (unet, 0)]
    )
    assert found.dtype == torch.float32
    moved = (expected - start).norm(dim=1)
    assert ((found - expected).norm(dim=1) < 0.1 * moved).all()
    assert low.dtype == dtype


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
        mask=known_everywhere(x0),
        fit=None,
        generators=generators(range(IMAGES)),
    )
    assert torch.equal(found, encoder(x0))
    assert not found.requires_grad


def test_an_encoder_sees_unknown_pixels_as_their_nearest_known(model):
    unet, _ = model
    encoder = awake(SemanticEncoder((3), (8, 8), 1, (), 4, CODE)).eval()
    x0 = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    mask = known_everywhere(x0)
    mask[..., 5:] = True
    options = {"mask": mask, "fit": None, "generators": generators([0])}
    found = code_of_image(encoder, unet, paper_scheduler(), x0, **options)
    assert torch.equal(found, encoder(x0[..., [0, 1, 2, 3, 4, 4, 4, 4]]))


def test_a_table_needs_a_fit(model):
    unet, table = model
    x0 = colours()
    options = {"mask": known_everywhere(x0), "fit": None, "generators": generators(range(IMAGES))}
    with pytest.raises(ValueError, match="a code table needs features of colours"):
        code_of_image(table, unet, paper_scheduler(), x0, **options)


def test_something_must_be_known(model):
    x0 = colours()
    with pytest.raises(ValueError, match="no pixel is known"):
        find(model, x0, steps=1, mask=~known_everywhere(x0))
