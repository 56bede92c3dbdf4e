"""Canvases that close on themselves: rolling one round rolls what is predicted."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from patchdm.grid import PatchGrid
from patchdm.sampling.denoise import predict_eps
from patchdm.sampling.positions import placing
from tests.models.test_unet import small_unet

P, ROWS, COLS, CODE = 16, 4, 8, 16
CLOSE = {"atol": 1e-5, "rtol": 0.0}
AXES = {"x": (-1,), "y": (-2,), "xy": (-2, -1)}


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return small_unet(sample_size=(P, 2 * P))


@pytest.fixture
def x_t() -> torch.Tensor:
    return torch.randn(2, 3, ROWS * P, COLS * P, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("guidance_scale", [None, 0.5])
@pytest.mark.parametrize("tiling", ["shifted", "blend"])
@pytest.mark.parametrize("wrap", AXES)
def test_there_is_no_edge(unet, x_t, wrap: str, tiling: str, guidance_scale: float | None):
    """Positions come again after twice those of training: a canvas turned by as much is equal."""
    t, cond = torch.tensor([300]), torch.randn(2, CODE)
    options = {"wrap": wrap, "tiling": tiling, "guidance_scale": guidance_scale}
    whole = predict_eps(unet, x_t, t, cond, **options)
    assert whole.shape == x_t.shape
    turns = [{-1: 4 * P, -2: 2 * P}[axis] for axis in AXES[wrap]]
    turned = predict_eps(unet, x_t.roll(turns, AXES[wrap]), t, cond, **options)
    assert_close(turned, whole.roll(turns, AXES[wrap]), **CLOSE)
    open_ended = options | {"wrap": "none", "positions": "reflect"}
    assert (predict_eps(unet, x_t, t, cond, **open_ended) - whole).abs().max() > 1e-3


@pytest.mark.parametrize("wrap", AXES)
def test_positions_close_too(wrap: str):
    config = small_unet(sample_size=(2 * P, 3 * P)).config
    for rows, cols in ((4, 6), (5, 7), (2, 3), (1, 40)):
        place = placing(config, "extrapolate", PatchGrid(rows, cols, P), wrap)
        at = torch.rand(20, 2) * torch.tensor([rows, cols])
        around = torch.tensor([rows * ("y" in wrap), cols * ("x" in wrap)])
        assert_close(place(at + around), place(at), atol=1e-4, rtol=0)
        told = place(at)[:, ["y" in wrap, "x" in wrap]]
        assert (told >= 0).all()
        assert (told <= torch.tensor([2.0, 3.0])[["y" in wrap, "x" in wrap]]).all()


def test_reflected_positions_are_those_of_training():
    config = small_unet(sample_size=(2 * P, 4 * P)).config
    place = placing(config, "reflect", PatchGrid(2, 10, P))
    cols = place(torch.tensor([[0.5, col] for col in (0, 1, 3.5, 4, 4.5, 7, 8, 9)]))[:, 1]
    assert cols.tolist() == [0, 1, 3.5, 4, 3.5, 1, 0, 1]


@pytest.mark.parametrize("tiling", ["shifted", "blend"])
@pytest.mark.parametrize("wrap", AXES)
def test_chunks_and_bands_are_equal(unet, x_t, wrap: str, tiling: str):
    t, field = torch.tensor([300]), torch.randn(2, 3, 4, CODE)
    options = {"wrap": wrap, "tiling": tiling}
    whole = predict_eps(unet, x_t, t, field, **options)
    chunks = predict_eps(unet, x_t, t, field, rows_per_chunk=1, cols_per_chunk=3, **options)
    assert_close(chunks, whole, **CLOSE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"wrap": "z"}, "`wrap` is 'z', expected none, x, y, xy"),
        ({"wrap": "x", "tiling": (0, 0)}, "`wrap` is 'x', expected 'none' with tiling"),
        (
            {"positions": "mirror"},
            "`positions` is 'mirror', expected extrapolate, rescale, reflect",
        ),
        ({"positions": "reflect,reflect,reflect"}, "or two of them as ROWS,COLUMNS"),
    ],
    ids=str,
)
def test_arguments_that_do_not_fit(unet, x_t, changes, message: str):
    with pytest.raises(ValueError, match=message):
        predict_eps(unet, x_t, torch.tensor([1]), None, **changes)


def test_networks_that_do_not_fit(x_t):
    t = torch.tensor([1])
    with pytest.raises(ValueError, match="expected 'none' with the collage 'none' of the network"):
        predict_eps(small_unet(collage="none"), x_t, t, None, wrap="x")
    for option in ({"wrap": "x"}, {"positions": "reflect"}):
        with pytest.raises(ValueError, match="but `unet` has no sample_size"):
            predict_eps(small_unet(), x_t, t, None, **option)
