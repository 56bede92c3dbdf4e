"""The canvas denoiser: which patches predict what, in bands of any height, guided or not."""

from __future__ import annotations

import weakref
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from patchdm.grid import PatchGrid, collage, merge, pad_and_split, positions, split
from patchdm.models import PatchUNet
from patchdm.sampling import denoise
from patchdm.sampling.denoise import Denoiser, predict_eps, row_numbers
from patchdm.sampling.tilings import PLAIN, Patches, Step, blend_weight
from tests.networks import small_unet

P, ROWS, COLS, BATCH = 8, 3, 4, 2
HALF = P // 2
TILINGS: list[Patches] = ["shifted", "blend", PLAIN, (HALF, HALF), (3, -2), (-3, 1)]


@pytest.fixture(scope="module")
def unet() -> PatchUNet:
    return small_unet().requires_grad_(requires_grad=False)


@pytest.fixture(autouse=True, params=[1, 2, 9], ids="rows={}".format)
def rows_in_a_band(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Bands of so many patch rows; small networks would have them all in one."""
    numbers = request.param * BATCH * row_numbers(small_unet(), COLS)
    monkeypatch.setattr(denoise, "BAND_NUMBERS", numbers)
    return request.param


@pytest.fixture(scope="module")
def inputs() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x_t = torch.randn(BATCH, 3, ROWS * P, COLS * P, generator=generator)
    return x_t, torch.tensor([3, 800]), torch.randn(BATCH, 6, generator=generator)


def alone(
    unet: PatchUNet, patches: Tensor, t: Tensor, place: Tensor, cond: Tensor | None
) -> Tensor:
    return unet.decode(unet.encode(patches, t, place, cond), t, place, cond)


def test_shifted_is_the_network_on_the_canvas(unet, inputs):
    assert_close(predict_eps(unet, *inputs), unet(*inputs).sample)


def test_half_a_patch_tiles_the_image(unet, inputs):
    x_t, t, cond = inputs
    place = positions(ROWS, COLS, shifted=True)
    expected = merge(alone(unet, split(x_t, P), t, place, cond), ROWS, COLS)
    assert_close(predict_eps(unet, *inputs, tiling=(HALF, HALF)), expected)


def test_plain_tiles_the_padded_canvas(unet, inputs):
    x_t, t, cond = inputs
    place = positions(ROWS, COLS, shifted=False)
    padded = merge(alone(unet, pad_and_split(x_t, P), t, place, cond), ROWS + 1, COLS + 1)
    expected = padded[..., HALF:-HALF, HALF:-HALF]
    assert_close(predict_eps(unet, *inputs, tiling=PLAIN), expected)


def test_any_offset_tiles_the_image_with_patches_of_the_padded_canvas(unet, inputs):
    """At (3, -2) a patch begins at pixel (3, 6) of the canvas, and at (11, 14)."""
    x_t, t, cond = inputs
    found = torch.nn.functional.pad(predict_eps(unet, *inputs, tiling=(3, -2)), (HALF,) * 4)
    canvas = torch.nn.functional.pad(x_t, (HALF,) * 4)

    def patch(y: int, x: int) -> Tensor:
        place = torch.tensor([[y, x]]) / P
        return alone(unet, canvas[..., y : y + P, x : x + P], t, place, cond)

    assert_close(found[..., 11:19, 14:22], patch(11, 14))
    # At the border: what reaches out is moved onto the canvas, that is to row 24 and column 0.
    assert_close(found[..., 24:28, 14:22], patch(24, 14)[..., :4, :])
    assert_close(found[..., 11:19, 4:6], patch(11, 0)[..., 4:6])


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("tiling", TILINGS)
def test_bands_change_nothing(inputs, tiling: Patches, memory_format: torch.memory_format):
    unet = small_unet().requires_grad_(requires_grad=False).to(memory_format=memory_format)
    whole = predict_eps(unet, *inputs, tiling=tiling)
    assert whole.shape == inputs[0].shape
    for rows_per_chunk in (1, 2, 9):
        banded = predict_eps(unet, *inputs, tiling=tiling, rows_per_chunk=rows_per_chunk)
        assert torch.equal(banded, whole)


@pytest.mark.parametrize("tiling", TILINGS)
def test_columns_may_be_chunked_too(unet, inputs, tiling: Patches):
    whole = predict_eps(unet, *inputs, tiling=tiling)
    for cols_per_chunk in (1, 3, 4, 9):
        out = torch.full_like(whole, torch.nan)
        result = predict_eps(
            unet,
            *inputs,
            tiling=tiling,
            rows_per_chunk=1,
            cols_per_chunk=cols_per_chunk,
            out=out,
        )
        assert result is out
        assert_close(out, whole, atol=1e-5, rtol=0.0)


def test_features_of_few_rows_are_alive(monkeypatch: pytest.MonkeyPatch):
    """While a row is decoded, the features of its two padded rows are alive, and of no other."""
    monkeypatch.setattr(denoise, "BAND_NUMBERS", 0)
    unet = small_unet().requires_grad_(requires_grad=False)
    generator = torch.Generator().manual_seed(1)
    x_t = torch.randn(1, 3, 12 * P, COLS * P, generator=generator)
    encode, decode, rows, alive = unet.encode, unet.decode, [], []

    def keep(*args: Tensor) -> list[Tensor]:
        features = encode(*args)
        rows.append(weakref.ref(features[0].untyped_storage()))
        return features

    def count(*args: Tensor) -> Tensor:
        alive.append(sum(row() is not None for row in rows))
        return decode(*args)

    monkeypatch.setattr(unet, "encode", keep)
    monkeypatch.setattr(unet, "decode", count)
    predict_eps(unet, x_t, torch.tensor([3]), None, rows_per_chunk=1)
    assert len(rows) == 13
    assert max(alive) <= 2


def test_a_canvas_may_lie_in_a_file(unet, inputs, tmp_path: Path):
    x_t, t, cond = inputs
    mapped = torch.from_file(str(tmp_path / "x"), shared=True, size=x_t.numel()).view(x_t.shape)
    mapped.copy_(x_t)
    assert torch.equal(predict_eps(unet, mapped, t, cond), predict_eps(unet, x_t, t, cond))


def test_the_network_is_told_positions_as_they_are_placed(inputs, monkeypatch: pytest.MonkeyPatch):
    unet, seen = small_unet(sample_size=(2 * ROWS * P, COLS // 2 * P)), []
    project = unet.project_positions
    monkeypatch.setattr(unet, "project_positions", lambda at: seen.append(at) or project(at))
    for told, most in {
        "extrapolate": [ROWS, COLS],
        "rescale": [2 * ROWS, COLS // 2],
        "reflect": [ROWS, COLS // 2],
        "rescale,extrapolate": [2 * ROWS, COLS],
    }.items():
        predict_eps(unet, *inputs, positions=told)
        assert torch.cat(seen).amax(dim=0).tolist() == most, told
        seen.clear()


def test_conditions_are_projected_once_for_each_distinct_input(inputs):
    unet, calls = small_unet(), Counter[str]()
    for name in ("time_embed", "position_embed", "cond_embed"):
        getattr(unet, name).register_forward_hook(
            lambda _module, args, _output, name=name: calls.update({name: len(args[0])})
        )
    x_t, t, cond = inputs
    denoiser = Denoiser(unet, PatchGrid(ROWS, COLS, P), cond, tiling="blend")
    for index in range(3):
        denoiser(x_t, Step(t[0] + index, index, 3))
    halves = 2  # f_E and f_D
    places = (ROWS + 1) * (COLS + 1) + ROWS * COLS  # on the grid that tiles the image
    places += (ROWS + 1) * COLS + ROWS * (COLS - 1)  # half a patch to the right
    places += ROWS * (
        COLS + 1
    )  # half a patch down, where collages are at padded places to the right
    places += (ROWS - 1) * (COLS - 1)  # both, where padded patches are at the first grid's collages
    assert calls == {
        "time_embed": 3 * halves,
        "position_embed": places * halves,
        "cond_embed": BATCH * halves,
    }


@pytest.mark.parametrize("tiling", ["shifted", PLAIN])
@pytest.mark.parametrize("rows_per_chunk", [None, 1, 2])
def test_every_padded_patch_is_encoded_once(
    inputs, tiling: Patches, rows_per_chunk: int | None, monkeypatch: pytest.MonkeyPatch
):
    unet, encoded = small_unet(), []
    encode = unet.encode
    monkeypatch.setattr(unet, "encode", lambda x, *rest: encoded.append(x) or encode(x, *rest))
    predict_eps(unet, *inputs, tiling=tiling, rows_per_chunk=rows_per_chunk)
    assert sum(map(len, encoded)) == BATCH * (ROWS + 1) * (COLS + 1)


@pytest.mark.parametrize("tiling", TILINGS)
def test_images_of_a_batch_do_not_meet(unet, inputs, tiling: Patches):
    both = predict_eps(unet, *inputs, tiling=tiling)
    for image in range(BATCH):
        single = predict_eps(unet, *(part[image : image + 1] for part in inputs), tiling=tiling)
        assert_close(single, both[image : image + 1], atol=1e-5, rtol=0.0)


@pytest.mark.parametrize("tiling", TILINGS)
def test_guidance_drops_code_and_position_together(unet, inputs, tiling: Patches):
    x_t, t, cond = inputs
    nowhere = small_unet(use_position=False)
    known = predict_eps(unet, x_t, t, cond, tiling=tiling)
    unknown = predict_eps(nowhere, x_t, t, None, tiling=tiling)
    assert not torch.allclose(known, unknown, atol=1e-2)
    guided = predict_eps(unet, x_t, t, cond, tiling=tiling, guidance_scale=0.5)
    assert_close(guided, 1.5 * known - 0.5 * unknown, atol=1e-5, rtol=0.0)


def on_grid(
    unet: PatchUNet, inputs: tuple[Tensor, Tensor, Tensor], down: int, right: int
) -> Tensor:
    """Collage on a grid that lies half a patch further in, all at once; 0 where it has no patch."""
    x_t, t, cond = inputs
    edges = HALF * (1 - right), HALF * (1 - right), HALF * (1 - down), HALF * (1 - down)
    patches = split(torch.nn.functional.pad(x_t, edges), P)
    rows, cols, further = ROWS - down, COLS - right, torch.tensor([down, right]) / 2
    place = positions(rows, cols, shifted=False) + further
    features = [collage(z, rows, cols) for z in unet.encode(patches, t, place, cond)]
    place = positions(rows, cols, shifted=True) + further
    eps = merge(unet.decode(features, t, place, cond), rows, cols)
    return torch.nn.functional.pad(eps, (HALF * right, HALF * right, HALF * down, HALF * down))


def test_blend_is_the_mean_of_collages_on_four_grids(unet, inputs):
    down, right = blend_weight(ROWS, P)[:, None], blend_weight(COLS, P)
    expected = down * right * on_grid(unet, inputs, 0, 0)
    expected += down * (1 - right) * on_grid(unet, inputs, 0, 1)
    expected += (1 - down) * right * on_grid(unet, inputs, 1, 0)
    expected += (1 - down) * (1 - right) * on_grid(unet, inputs, 1, 1)
    assert_close(predict_eps(unet, *inputs, tiling="blend"), expected)


@pytest.mark.parametrize("shape", [(1, 3), (3, 1)], ids=str)
def test_canvases_one_patch_high_or_wide_blend_along_the_other_axis(unet, shape: tuple[int, int]):
    x_t = torch.randn(1, 3, shape[0] * P, shape[1] * P)
    shifted, blend = (
        predict_eps(unet, x_t, torch.tensor([3]), None, tiling=tiling)
        for tiling in ("shifted", "blend")
    )
    across = (blend - shifted).abs().amax(dim=(0, 1)).amax(dim=shape.index(1))
    assert (across[HALF:-HALF] > 0).all()
    assert not across[:HALF].any()
    assert not across[-HALF:].any()


def test_a_grid_counts_least_at_its_own_borders():
    weight = blend_weight(3, P)
    assert weight.tolist() == [
        *[1, 1, 1, 1, 0.875, 0.625, 0.375, 0.125],
        *[0.125, 0.375, 0.625, 0.875, 0.875, 0.625, 0.375, 0.125],
        *[0.125, 0.375, 0.625, 0.875, 1, 1, 1, 1],
    ]


@pytest.mark.parametrize("rows_per_chunk", [0, -1])
def test_no_rows_are_refused(unet, inputs, rows_per_chunk: int):
    with pytest.raises(
        ValueError, match=rf"rows_per_chunk is {rows_per_chunk}, expected at least 1"
    ):
        predict_eps(unet, *inputs, rows_per_chunk=rows_per_chunk)


def test_a_canvas_must_hold_whole_patches(unet, inputs):
    x_t, t, cond = inputs
    with pytest.raises(ValueError, match="width is 30, expected multiples of the patch size 8"):
        predict_eps(unet, x_t[..., :-2], t, cond)
