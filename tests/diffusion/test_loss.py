"""The losses of the collage modes, patch by patch; and what reaches which gradient."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from torch import Tensor
from torch.testing import assert_close

from patchdm.diffusion.loss import (
    Window,
    cut_windows,
    min_snr_weight,
    training_loss,
    window_losses,
)
from patchdm.diffusion.schedules import paper_scheduler
from patchdm.grid import collage
from patchdm.models import PatchUNet
from tests.networks import small_unet

P, ROWS, COLS, BATCH = 8, 2, 3, 2
MODES = ["feature", "none", "pixel-fixed", "pixel-random"]
CORNER = torch.tensor([[0, 2], [1, 1]])
OFFSET = torch.tensor([[3, 8], [0, 5]])


@pytest.fixture
def draws() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "x0": torch.rand(BATCH, 3, ROWS * P, COLS * P, generator=generator) * 2 - 1,
        "noise": torch.randn(BATCH, 3, 2 * P, 2 * P, generator=generator),
        "t": torch.tensor([40, 700]),
        "cond": torch.randn(BATCH, 6, generator=generator),
    }


def linear_scheduler(prediction_type: str) -> DDIMScheduler:
    """The paper's schedule with another prediction type."""
    return DDIMScheduler.from_config(paper_scheduler().config, prediction_type=prediction_type)


def losses_of(unet: PatchUNet, draws: dict[str, Tensor], window: Window) -> dict[str, Tensor]:
    return window_losses(
        unet,
        window,
        draws["t"],
        draws["cond"],
        noise=draws["noise"],
        scheduler=paper_scheduler(),
    )


def noisy_patch(draws: dict[str, Tensor], image: int, y: int, x: int) -> tuple[Tensor, ...]:
    """Cut x_t, noise and mask of the patch at (y, x) of the window of one image, by hand."""
    top, left = (CORNER[image] * P).tolist()
    pad = torch.nn.ZeroPad2d(P // 2)
    window = slice(top, top + 2 * P), slice(left, left + 2 * P)
    x0 = pad(draws["x0"])[image][:, *window]
    inside = pad(torch.ones_like(draws["x0"]))[image][:, *window]
    a = paper_scheduler().alphas_cumprod[draws["t"][image]]
    noise = draws["noise"][image]
    x_t = (a.sqrt() * x0 + (1 - a).sqrt() * noise) * inside
    cut = slice(y, y + P), slice(x, x + P)
    return tuple(plane[None, :, *cut] for plane in (x_t, noise, inside))


def error_alone(unet: PatchUNet, draws: dict[str, Tensor], image: int, y: int, x: int) -> Tensor:
    """Squared error of that patch, predicted from its own pixels at its real-valued position."""
    x_t, noise, inside = noisy_patch(draws, image, y, x)
    t, cond = draws["t"][image : image + 1], draws["cond"][image : image + 1]
    place = CORNER[image : image + 1] + torch.tensor([[y, x]]) / P
    eps = unet.decode(unet.encode(x_t, t, place, cond), t, place, cond)
    return ((eps - noise) * inside).square().mean()


@pytest.fixture
def window(draws) -> Window:
    return cut_windows(draws["x0"], CORNER, OFFSET, P)


def test_windows_hold_their_pixels(draws, window):
    image = F.pad(draws["x0"], (P // 2,) * 4)
    assert torch.equal(window.x0[0], image[0, :, : 2 * P, 2 * P : 4 * P])
    assert torch.equal(window.x0[1], image[1, :, P : 3 * P, P : 3 * P])
    assert window.inside[0, 0].sum() == (2 * P - P // 2) ** 2  # the upper right corner
    assert not window.inside[0, 0, : P // 2].any()
    assert window.inside[1, 0, : -P // 2].all()
    assert not window.inside[1, 0, -P // 2 :].any()


def test_none_is_the_central_patch_on_its_own(draws, window):
    unet = small_unet(collage="none")
    losses = losses_of(unet, draws, window)
    expected = [error_alone(unet, draws, image, P // 2, P // 2) for image in range(BATCH)]
    assert losses.keys() == {"shifted"}
    assert_close(losses["shifted"], torch.stack(expected))


def test_pixel_random_is_the_drawn_patch_on_its_own(draws, window):
    unet = small_unet(collage="pixel-random")
    losses = losses_of(unet, draws, window)
    expected = [error_alone(unet, draws, image, *OFFSET[image]) for image in range(BATCH)]
    assert losses.keys() == {"random"}
    assert_close(losses["random"], torch.stack(expected))


def test_pixel_fixed_is_both_grids_on_their_own(draws, window):
    unet = small_unet(collage="pixel-fixed")
    losses = losses_of(unet, draws, window)
    four = [(0, 0), (0, P), (P, 0), (P, P)]
    plain = [
        torch.stack([error_alone(unet, draws, image, y, x) for y, x in four]).mean()
        for image in range(BATCH)
    ]
    assert losses.keys() == {"shifted", "plain"}
    assert_close(losses["plain"], torch.stack(plain))
    none = losses_of(small_unet(collage="none"), draws, window)
    assert_close(losses["shifted"], none["shifted"])


def test_feature_shares_the_plain_term_and_collages_the_other(draws, window):
    unet = small_unet()
    losses = losses_of(unet, draws, window)
    fixed = losses_of(small_unet(collage="pixel-fixed"), draws, window)
    assert_close(losses["plain"], fixed["plain"])

    t, cond = draws["t"][:1], draws["cond"][:1]
    four = [(0, 0), (0, P), (P, 0), (P, P)]
    patches = torch.cat([noisy_patch(draws, 0, y, x)[0] for y, x in four])
    places = CORNER[0] + torch.tensor(four) / P
    features = [collage(z, 1, 1) for z in unet.encode(patches, t, places, cond)]
    eps = unet.decode(features, t, CORNER[:1] + 0.5, cond)
    error = (eps - noisy_patch(draws, 0, P // 2, P // 2)[1]).square().mean()
    assert_close(losses["shifted"][0], error)
    assert abs(losses["shifted"][0] - fixed["shifted"][0]) > 1e-3


@pytest.mark.parametrize("mode", MODES)
def test_only_losses_read_the_mode(draws, mode: str):
    unet, paper = small_unet(collage=mode), small_unet()
    assert unet.state_dict().keys() == paper.state_dict().keys()
    x_t = torch.randn(1, 3, ROWS * P, COLS * P)
    t, cond = draws["t"][:1], draws["cond"][:1]
    assert torch.equal(unet(x_t, t, cond).sample, paper(x_t, t, cond).sample)


@pytest.mark.parametrize("mode", MODES)
def test_pixels_in_the_padding_and_noise_there_count_nothing(draws, window, mode: str):
    unet = small_unet(collage=mode)
    outside = (1 - window.inside).bool()
    other = Window(window.x0.masked_fill(outside, 9.0), window.inside, window.corner, window.offset)
    noisier = draws | {"noise": draws["noise"].masked_fill(outside, -9.0)}
    expected, found = losses_of(unet, draws, window), losses_of(unet, noisier, other)
    for name, loss in expected.items():
        assert_close(found[name], loss)


@pytest.mark.parametrize("mode", MODES)
def test_a_dropped_position_is_that_of_no_place(draws, window, mode: str):
    unet = small_unet(collage=mode)
    nowhere = small_unet(collage=mode, use_position=False)
    corner = window.corner.clone()
    corner[1] = torch.nan
    dropped = Window(window.x0, window.inside, corner, window.offset)
    some, all_known, none_known = (
        losses_of(net, draws, w) for net, w in ((unet, dropped), (unet, window), (nowhere, window))
    )
    for name, loss in some.items():
        assert_close(loss[0], all_known[name][0])
        assert_close(loss[1], none_known[name][1])
        assert abs(loss[1] - all_known[name][1]) > 1e-5


@pytest.mark.parametrize("mode", MODES)
def test_gradients_reach_every_weight_and_the_code(draws, window, mode: str):
    unet = small_unet(collage=mode)
    draws["cond"].requires_grad_()
    torch.stack(list(losses_of(unet, draws, window).values())).sum().backward()
    assert draws["cond"].grad.abs().sum() > 0
    assert [name for name, weight in unet.named_parameters() if not weight.grad.any()] == []


def test_whole_images_give_the_sum_of_the_terms(draws, window):
    unet = small_unet()
    canvas_noise = torch.zeros(BATCH, 3, (ROWS + 1) * P, (COLS + 1) * P)
    for noise, piece, (row, col) in zip(canvas_noise, draws["noise"], CORNER.tolist(), strict=True):
        noise[:, row * P : (row + 2) * P, col * P : (col + 2) * P] = piece
    loss = training_loss(
        unet, draws["x0"], draws["t"], draws["cond"], noise=canvas_noise, window=CORNER
    )
    terms = losses_of(unet, draws, window)
    assert_close(loss, (terms["shifted"] + terms["plain"]).mean())


def test_v_prediction_has_its_own_target(draws, window):
    scheduler = linear_scheduler("v_prediction")
    silent = PatchUNet(patch_size=P, channels=(8, 16), embed_dim=16, cond_dim=6)  # predicts 0
    losses = window_losses(
        silent, window, draws["t"], None, noise=draws["noise"], scheduler=scheduler
    )
    a = scheduler.alphas_cumprod[draws["t"]].view(-1, 1, 1, 1)
    v = a.sqrt() * draws["noise"] - (1 - a).sqrt() * window.x0
    expected = v[..., P // 2 : -P // 2, P // 2 : -P // 2].square().mean(dim=(1, 2, 3))
    assert_close(losses["shifted"], expected)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_min_snr_weighs_the_error_of_x0(prediction_type: str):
    """An error d of x0 is d sqrt(SNR) of eps and d sqrt(SNR + 1) of v: both count min(SNR, 5)."""
    scheduler = linear_scheduler(prediction_type)
    t = torch.tensor([0, 200, 500, 900])
    alpha = scheduler.alphas_cumprod[t]
    snr = alpha / (1 - alpha)
    squared_error = snr if prediction_type == "epsilon" else snr + 1
    assert snr.max() > 5 > snr.min()
    assert_close(min_snr_weight(scheduler, t, 5.0) * squared_error, snr.clamp(max=5))
