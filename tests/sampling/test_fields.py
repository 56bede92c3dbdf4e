"""Fields of codes: what every patch is told, and that a constant field is one code."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from patchdm.grid import PatchGrid
from patchdm.sampling.denoise import predict_eps
from patchdm.sampling.fields import codes_at, drifting
from tests.models.test_unet import small_unet

P, ROWS, COLS, CODE = 16, 2, 4, 16
GRID = PatchGrid(ROWS, COLS, P)
CLOSE = {"atol": 1e-5, "rtol": 0.0}


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return small_unet(sample_size=(ROWS * P, COLS // 2 * P)).eval()


@pytest.fixture
def x_t() -> torch.Tensor:
    return torch.randn(2, 3, ROWS * P, COLS * P, generator=torch.Generator().manual_seed(1))


def test_codes_lie_at_the_corners_and_change_linearly_between():
    field = torch.randn(1, 2, 3, CODE)
    at = torch.tensor([[0, 0], [0, 4], [2, 0], [2, 4], [0, 2], [0, 1], [1, 0], [-1, 9]]).float()
    found = codes_at(field, at, GRID)[0]
    assert torch.equal(found[:5], torch.stack([field[0, y, x] for y, x in CORNERS]))
    assert_close(found[5], (field[0, 0, 0] + field[0, 0, 1]) / 2)
    assert_close(found[6], (field[0, 0, 0] + field[0, 1, 0]) / 2)
    assert torch.equal(found[7], field[0, 0, 2])  # beyond the canvas those of its edge


def test_a_field_drifts_from_the_code_of_what_is_known():
    code, drawn = torch.randn(1, CODE), torch.randn(1, 1, 2, CODE)
    hole = torch.zeros(1, 1, ROWS * P, COLS * P, dtype=torch.bool)
    hole[..., P:] = True  # one patch is known, on the left
    field = drifting(code, drawn, hole, patch_size=P, reach=2 * P)
    assert field.shape == (1, ROWS + 1, COLS + 1, CODE)
    first, last = drawn[0, 0]
    others = [torch.lerp(first, last, n / COLS) for n in range(COLS + 1)]
    for n, away in enumerate([0, 1, P + 1, 2 * P, 2 * P]):  # from the last known column
        expected = torch.lerp(code[0], others[n], away / (2 * P))
        assert_close(field[0, :, n], expected.expand(ROWS + 1, CODE))


def test_where_nothing_is_known_a_field_is_what_was_drawn():
    drawn, hole = torch.randn(2, 1, 1, CODE), torch.ones(2, 1, ROWS * P, COLS * P).bool()
    field = drifting(torch.zeros(2, CODE), drawn, hole, patch_size=P, reach=P)
    assert torch.equal(field, drawn.expand(2, ROWS + 1, COLS + 1, CODE))


CORNERS = ((0, 0), (0, 2), (1, 0), (1, 2), (0, 1))


def test_a_field_closes_where_the_canvas_does():
    field = torch.randn(2, 1, 2, CODE)
    at = torch.tensor([[0, 0], [0, 2], [0, 3], [0, 4], [0, -1]]).float()
    found = codes_at(field, at, GRID, "x")
    first, second = field[:, 0].unbind(1)
    for n, expected in enumerate(
        [first, second, (first + second) / 2, first, (first + second) / 2]
    ):
        assert_close(found[:, n], expected)


@pytest.mark.parametrize("guidance_scale", [None, 0.5])
@pytest.mark.parametrize("tiling", ["shifted", "blend", (0, 0)])
def test_a_constant_field_is_one_code(unet, x_t, tiling, guidance_scale: float | None):
    codes, t = torch.randn(2, CODE), torch.tensor([300])
    options = {"tiling": tiling, "guidance_scale": guidance_scale}
    field = codes[:, None, None].expand(2, 3, 2, CODE)
    one = predict_eps(unet, x_t, t, codes, **options)
    assert_close(predict_eps(unet, x_t, t, field, **options), one, **CLOSE)


def test_a_field_changes_what_is_near(unet, x_t):
    t, codes = torch.tensor([300]), torch.randn(2, 1, 5, CODE)
    before = predict_eps(unet, x_t, t, codes)
    codes[:, :, 4] += 1
    changed = (predict_eps(unet, x_t, t, codes) - before).abs().amax(dim=(0, 1, 2))
    assert not changed[: 2 * P].any()  # codes 0 to 3 are those of the first three patches
    assert changed[3 * P :].all()


@pytest.mark.parametrize("tiling", ["shifted", "blend"])
def test_chunks_and_bands_of_a_field_are_equal(unet, x_t, tiling: str):
    t, field = torch.tensor([300]), torch.randn(2, 3, 4, CODE)
    whole = predict_eps(unet, x_t, t, field, tiling=tiling)
    chunks = {"rows_per_chunk": 1, "cols_per_chunk": 2}
    assert_close(predict_eps(unet, x_t, t, field, tiling=tiling, **chunks), whole, **CLOSE)
