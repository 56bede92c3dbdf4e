"""PatchUNet: only the collage crosses patch borders; conditions can be dropped; it saves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from patchdm.grid import collage, pad_and_split, positions, split
from patchdm.models import PatchUNet

P, ROWS, COLS = 16, 3, 4


def small_unet(**changes: object) -> PatchUNet:
    """Return a network in eval mode whose every weight is at work."""
    sizes = {
        "patch_size": P,
        "channels": (8, 16),
        "res_blocks": 1,
        "attention_levels": (1,),
        "embed_dim": 16,
        "time_channels": 8,
        "position_channels": 8,
        "cond_dim": 16,
    }
    torch.manual_seed(0)
    unet = PatchUNet(**sizes | changes).eval().requires_grad_(requires_grad=False)
    for weight in unet.parameters():  # away from the zeros that residual branches start as
        weight.add_(0.1 * torch.randn_like(weight))
    return unet


@pytest.fixture(scope="module")
def unet() -> PatchUNet:
    return small_unet()


@pytest.fixture(scope="module")
def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x_t = torch.randn(2, 3, ROWS * P, COLS * P, generator=generator)
    return x_t, torch.tensor([3, 800]), torch.randn(2, 16, generator=generator)


@pytest.mark.parametrize(("row", "col"), [(0, 0), (0, 2), (1, 0), (2, 3), (3, 4)])
def test_a_padded_patch_influences_its_adjacent_outputs_alone(unet, inputs, row: int, col: int):
    x_t, t, cond = inputs
    plain, shifted = (positions(ROWS, COLS, shifted=shift) for shift in (False, True))
    patches = pad_and_split(x_t, P)
    changed = patches.clone()
    image = 1
    changed[(image * (ROWS + 1) + row) * (COLS + 1) + col] += 1.0

    def outputs(patches: torch.Tensor) -> torch.Tensor:
        maps = [collage(z, ROWS, COLS) for z in unet.encode(patches, t, plain, cond)]
        return unet.decode(maps, t, shifted, cond)

    moved = (outputs(changed) - outputs(patches)).abs().amax(dim=(1, 2, 3)).view(2, ROWS, COLS)
    adjacent = torch.zeros(2, ROWS, COLS, dtype=torch.bool)
    adjacent[image, max(row - 1, 0) : row + 1, max(col - 1, 0) : col + 1] = True
    assert torch.equal(moved > 0, adjacent)


def test_prediction_of_a_window_is_that_of_the_canvas(unet, inputs):
    """Position and code of a shifted patch, and nothing farther, make its prediction."""
    x_t, t, cond = inputs
    whole = split(unet(x_t, t, cond).sample, P).view(2, ROWS, COLS, 3, P, P)
    row, col = 1, 2
    patches = pad_and_split(x_t, P).view(2, ROWS + 1, COLS + 1, 3, P, P)
    window = patches[:, row : row + 2, col : col + 2].reshape(-1, 3, P, P)
    corner = torch.tensor([[row, col]])
    features = unet.encode(window, t, corner + positions(1, 1, shifted=False), cond)
    patch = unet.decode([collage(z, 1, 1) for z in features], t, corner + 0.5, cond)
    torch.testing.assert_close(patch, whole[:, row, col], atol=1e-5, rtol=0.0)


def test_features_are_those_of_the_patches(unet, inputs):
    """Encoder maps: the stem's, each block's (down-sampling included) and the bottleneck."""
    x_t, t, cond = inputs
    features = unet.encode(pad_and_split(x_t, P), t, None, cond)
    shapes = [(8, P), (8, P), (8, P // 2), (16, P // 2), (16, P // 2)]
    assert [tuple(z.shape) for z in features] == [(40, width, s, s) for width, s in shapes]


@pytest.mark.parametrize("cond_dim", [16, 12])
def test_a_dropped_code_is_a_code_of_zeros(inputs, cond_dim: int):
    unet = small_unet(cond_dim=cond_dim)
    x_t, t, cond = inputs
    cond = cond[:, :cond_dim]
    dropped = unet(x_t, t, None).sample
    torch.testing.assert_close(dropped, unet(x_t, t, 0 * cond).sample, atol=1e-5, rtol=0.0)
    assert not torch.allclose(dropped, unet(x_t, t, cond).sample, atol=1e-3)


def test_a_dropped_position_is_one_of_its_own(unet, inputs):
    x_t, t, cond = inputs
    patches = split(x_t, P)
    known = positions(ROWS, COLS, shifted=True)
    some = known.clone()
    some[5] = torch.nan

    def outputs(places: torch.Tensor | None) -> torch.Tensor:
        features = unet.encode(patches, t, places, cond)
        return unet.decode(features, t, places, cond).view(2, -1, 3, P, P)

    all_known, some_known, none_known = (outputs(places) for places in (known, some, None))
    kept = [index for index in range(ROWS * COLS) if index != 5]
    torch.testing.assert_close(some_known[:, kept], all_known[:, kept], atol=1e-5, rtol=0.0)
    torch.testing.assert_close(some_known[:, 5], none_known[:, 5], atol=1e-5, rtol=0.0)
    assert not torch.allclose(all_known[:, 5], none_known[:, 5], atol=1e-3)


def test_a_new_network_predicts_zero(inputs):
    """ADM's start: residual branches and output are zero-initialised."""
    x_t, t, cond = inputs
    unet = PatchUNet(patch_size=P, channels=(8, 16), embed_dim=16, cond_dim=16)
    assert not unet(x_t, t, cond).sample.any()


def test_saving_and_loading_changes_nothing(unet, inputs, tmp_path: Path):
    unet.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json",
        "diffusion_pytorch_model.safetensors",
    }
    again = PatchUNet.from_pretrained(tmp_path)
    assert torch.equal(again(*inputs).sample, unet(*inputs).sample)
    assert again.config.channels in ((8, 16), [8, 16])


def test_paper_counts():
    """PAPER section 1, Backbone: 71.40 M parameters."""
    with torch.device("meta"):
        unet = PatchUNet()
    assert round(sum(weight.numel() for weight in unet.parameters()) / 1e6, 2) == 71.40


def test_patches_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match="patch_size is 18, expected multiples of 4"):
        PatchUNet(patch_size=18, channels=(8, 16))
