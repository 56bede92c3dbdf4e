"""Sampling where the canvas lies: the images of the pipeline, in a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from patchdm.diffusion.schedules import paper_scheduler
from patchdm.grid import PatchGrid
from patchdm.models import PatchUNet
from patchdm.sampling import denoise
from patchdm.sampling.denoise import Denoiser
from patchdm.sampling.solve import solve, solve_in_place
from patchdm.sampling.tilings import Step
from tests.networks import small_unet

P, ROWS, COLS, STEPS = 8, 5, 3, 4
SHAPE = (2, 3, ROWS * P, COLS * P)


@pytest.fixture(autouse=True)
def bands_of_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small networks would have all rows in one."""
    monkeypatch.setattr(denoise, "BAND_NUMBERS", 0)


@pytest.fixture(scope="module")
def unet() -> PatchUNet:
    return small_unet().requires_grad_(requires_grad=False)


@pytest.fixture
def x_T() -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def cond() -> Tensor:
    return torch.randn(2, 6, generator=torch.Generator().manual_seed(4))


def mapped(path: Path, values: Tensor) -> Tensor:
    canvas = torch.from_file(str(path), shared=True, size=values.numel()).view(values.shape)
    return canvas.copy_(values)


def denoiser(unet: PatchUNet, cond: Tensor, **options: Any) -> Denoiser:
    return Denoiser(unet, PatchGrid(ROWS, COLS, P), cond, **options)


@pytest.mark.parametrize("tiling", ["shifted", "blend"])
@pytest.mark.parametrize("w", [0.0, 0.7])
def test_a_canvas_in_a_file_becomes_the_image(unet, x_T, cond, tmp_path: Path, tiling, w):
    options = {"tiling": tiling, "guidance": lambda _: w}
    plain = denoiser(unet, cond, **options)
    expected = solve(plain, paper_scheduler(), x_T, num_steps=STEPS)
    canvas = mapped(tmp_path / "x", x_T)
    shown: list[int] = []

    def show(steps: Sequence[Step]) -> Iterator[Step]:
        for step in steps:
            shown.append(step.index)
            yield step

    in_bands = denoiser(unet, cond, rows_per_chunk=1, **options)
    solve_in_place(in_bands, paper_scheduler(), canvas, num_steps=STEPS, show=show)
    assert torch.equal(canvas, expected)
    assert shown == list(range(STEPS))
    stored = torch.from_file(str(tmp_path / "x"), size=canvas.numel()).view(SHAPE)
    assert torch.equal(stored, expected)


def test_columns_in_chunks(unet, x_T, cond, tmp_path: Path):
    expected = solve(denoiser(unet, cond), paper_scheduler(), x_T, num_steps=STEPS)
    canvas, eps = mapped(tmp_path / "x", x_T), mapped(tmp_path / "eps", torch.zeros(SHAPE))
    in_chunks = denoiser(unet, cond, cols_per_chunk=2)
    solve_in_place(in_chunks, paper_scheduler(), canvas, num_steps=STEPS, eps=eps)
    assert_close(canvas, expected, atol=1e-4, rtol=0.0)


@pytest.mark.parametrize("mode", ["none", "pixel-fixed", "pixel-random"])
def test_the_ablations_too(x_T, cond, mode: str):
    unet = small_unet(collage=mode).requires_grad_(requires_grad=False)
    expected = solve(denoiser(unet, cond), paper_scheduler(), x_T, num_steps=STEPS)
    canvas = x_T.clone()
    solve_in_place(denoiser(unet, cond), paper_scheduler(), canvas, num_steps=STEPS)
    assert torch.equal(canvas, expected)


def test_columns_need_a_place_for_the_prediction(unet, x_T, cond):
    in_chunks = denoiser(unet, cond, cols_per_chunk=1)
    with pytest.raises(ValueError, match="`eps` is None, expected a place"):
        solve_in_place(in_chunks, paper_scheduler(), x_T, num_steps=2)
