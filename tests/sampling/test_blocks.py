"""Canvases in files, block by block: the images of the pipeline, and what a kill leaves."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import SchedulerMixin
from torch import Tensor
from torch.testing import assert_close

from patchdm import files
from patchdm.diffusion.schedules import paper_scheduler
from patchdm.errors import PatchDMError
from patchdm.grid import PatchGrid
from patchdm.models import PatchUNet
from patchdm.sampling.blocks import block_count, solve_by_blocks
from patchdm.sampling.coarse import enlarged
from patchdm.sampling.denoise import Denoiser
from patchdm.sampling.solve import solve
from patchdm.sampling.solvers import solver
from tests.networks import small_unet

P, ROWS, COLS, STEPS = 8, 5, 7, 4
SHAPE = (1, 3, ROWS * P, COLS * P)
CLOSE = {"atol": 1e-3, "rtol": 0.0}
"""Of canvases that other sums have rounded at each step; half a grey level is 4e-3."""
FIELD = torch.randn(1, 2, 3, 6, generator=torch.Generator().manual_seed(4))


@pytest.fixture(scope="module")
def unet() -> PatchUNet:
    return small_unet(sample_size=(2 * P, 2 * P)).requires_grad_(requires_grad=False)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def x_T() -> Tensor:
    """Return what `solve_by_blocks` draws."""
    generator = seeded()
    rows = [torch.randn(1, 3, P, COLS * P, generator=generator) for _ in range(ROWS)]
    return torch.cat(rows, dim=2)


def by_blocks(unet: PatchUNet, folder: Path, side: int = 3, **changes: Any) -> Tensor:
    options = {"tiling": "blend", "cond": FIELD} | changes
    scheduler: SchedulerMixin = options.pop("scheduler", paper_scheduler())
    settings = options.pop("settings", {"seed": 3})
    watch = options.pop("on_progress", lambda _: None)
    denoiser = Denoiser(unet, PatchGrid(ROWS, COLS, P), **options)
    rest = {"num_steps": STEPS, "side": side, "settings": settings, "on_progress": watch}
    return solve_by_blocks(denoiser, scheduler, folder, seeded(), **rest)


@pytest.mark.parametrize("name", ["ddim", "dpm-solver++"])
@pytest.mark.parametrize("tiling", ["shifted", "blend"])
@pytest.mark.parametrize("w", [0.0, 0.7])
@pytest.mark.parametrize("wrap", ["none", "xy"])
def test_it_is_the_image(unet, tmp_path: Path, name: str, tiling: str, w: float, wrap: str):
    options = {"cond": FIELD, "tiling": tiling, "guidance": lambda _: w, "wrap": wrap}
    scheduler = solver(paper_scheduler(), name)
    plain = Denoiser(unet, PatchGrid(ROWS, COLS, P), **options)
    expected = solve(plain, scheduler, x_T(), num_steps=STEPS)
    found = by_blocks(unet, tmp_path, scheduler=scheduler, **options)
    assert_close(found, expected, **CLOSE)
    stored = torch.from_file(str(tmp_path / f"x{STEPS % 2}"), size=found.numel()).view(SHAPE)
    assert torch.equal(stored, found)


@pytest.mark.parametrize("mode", ["none", "pixel-fixed", "pixel-random"])
def test_the_ablations_too(tmp_path: Path, mode: str):
    unet = small_unet(collage=mode).requires_grad_(requires_grad=False)
    plain = Denoiser(unet, PatchGrid(ROWS, COLS, P), FIELD)
    expected = solve(plain, paper_scheduler(), x_T(), num_steps=STEPS)
    assert_close(by_blocks(unet, tmp_path), expected, **CLOSE)


class Killed(BaseException):
    """Ends a process at any moment, as far as files can tell."""


@pytest.mark.parametrize("name", ["ddim", "dpm-solver++"])
@pytest.mark.parametrize("seen", [0, 1, 7, 23])
def test_killed_it_goes_on_behind_what_is_done(unet, tmp_path: Path, name: str, seen: int):
    scheduler = solver(paper_scheduler(), name)
    whole = by_blocks(unet, tmp_path / "whole", scheduler=scheduler).clone()

    def kill(done: int) -> None:
        if done == seen:
            raise Killed

    with pytest.raises(Killed):
        by_blocks(unet, tmp_path / "killed", scheduler=scheduler, on_progress=kill)
    with (tmp_path / "killed/journal").open("a") as journal:
        journal.write("3 0")  # of a line that was being written
    counts: list[int] = []
    found = by_blocks(unet, tmp_path / "killed", scheduler=scheduler, on_progress=counts.append)
    assert torch.equal(found, whole)
    assert counts == list(range(seen, STEPS * block_count(ROWS, COLS, 3) + 1))


@pytest.mark.parametrize("moment", ["noise", "x", "m"])
def test_what_was_half_written_is_written_again(unet, tmp_path: Path, moment: str):
    """As a kill between the file and the journal's line leaves it."""
    scheduler = solver(paper_scheduler(), "dpm-solver++")
    whole = by_blocks(unet, tmp_path / "whole", scheduler=scheduler).clone()

    def kill(done: int) -> None:
        if done == 8:
            raise Killed

    with pytest.raises(Killed):
        by_blocks(unet, tmp_path / "killed", scheduler=scheduler, on_progress=kill)
    folder = tmp_path / "killed"
    if moment == "noise":
        (folder / "journal").write_text("")
    else:
        # Step 1 reads x1 and m1 and writes x0 and m0; the last block's place is not done.
        half = torch.from_file(str(folder / f"{moment}0"), shared=True, size=whole.numel())
        half.view(SHAPE)[..., 3 * P :, 6 * P :] = torch.nan
    assert torch.equal(by_blocks(unet, folder, scheduler=scheduler), whole)


def test_memory_does_not_grow_with_the_canvas(unet, tmp_path: Path, monkeypatch):
    """Of a block, the network sees the patches of one and the padded row and column beside them."""
    seen: list[int] = []
    encode = unet.encode
    monkeypatch.setattr(unet, "encode", lambda z, *a: seen.append(len(z)) or encode(z, *a))
    by_blocks(unet, tmp_path, side=2, tiling="shifted")
    assert max(seen) <= 3 * 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": {"seed": 4}}, "settings.json: the image was begun with seed = 3, found 4: "),
        ({"side": 2}, "settings.json: the image was begun with side = 3, found 2: "),
    ],
    ids=str,
)
def test_another_image_is_refused(unet, tmp_path: Path, change: dict[str, Any], message: str):
    by_blocks(unet, tmp_path)
    with pytest.raises(PatchDMError, match=message):
        by_blocks(unet, tmp_path, **change)


def test_a_full_disk_is_refused_before_anything_is_drawn(unet, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    folder = tmp_path / "new" / "work"
    with pytest.raises(
        PatchDMError, match=r"found 1e-08 GB of free disk, expected [0-9.e-]+ GB or more"
    ):
        by_blocks(unet, folder)
    assert not folder.parent.exists()
    monkeypatch.undo()
    by_blocks(unet, folder)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: SimpleNamespace(free=10**6))
    by_blocks(unet, folder)  # what is there takes no more


def test_a_folder_of_other_files_is_left_alone(unet, tmp_path: Path):
    (tmp_path / "photo.png").write_text("mine")
    with pytest.raises(PatchDMError, match=r"found photo\.png, expected a new folder"):
        by_blocks(unet, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


def test_two_processes_do_not_share_a_folder(unet, tmp_path: Path):
    def again(done: int) -> None:
        if done == 1:
            by_blocks(unet, tmp_path)

    with pytest.raises(PatchDMError, match="another process is at work there"):
        by_blocks(unet, tmp_path, on_progress=again)


def test_solvers_that_look_at_whole_canvases_are_refused(unet, tmp_path: Path):
    scheduler = solver(paper_scheduler(), "unipc")
    message = "UniPCMultistepScheduler, expected DDIMScheduler or DPMSolverMultistepScheduler"
    with pytest.raises(ValueError, match=message):
        by_blocks(unet, tmp_path, scheduler=scheduler)
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("name", ["ddim", "dpm-solver++"])
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_an_image_to_begin_with(unet, tmp_path: Path, name: str, strength: float):
    small = torch.rand(1, 3, 9, 11, generator=seeded()) * 2 - 1
    rows = enlarged(small, ROWS * P, COLS * P)
    scheduler = solver(paper_scheduler(), name)
    begun = {"image": rows(0, ROWS * P), "strength": strength}
    plain = Denoiser(unet, PatchGrid(ROWS, COLS, P), FIELD)
    expected = solve(plain, scheduler, x_T(), num_steps=STEPS, **begun)
    denoiser = Denoiser(unet, PatchGrid(ROWS, COLS, P), FIELD)
    rest = {"num_steps": STEPS, "side": 3, "settings": {}, "image": rows, "strength": strength}
    found = solve_by_blocks(denoiser, scheduler, tmp_path, seeded(), **rest)
    assert_close(found, expected, **CLOSE)
    lines = (tmp_path / "journal").read_text().splitlines()
    assert len(lines) == 1 + round(strength * STEPS) * block_count(ROWS, COLS, 3)
