"""Denoise a canvas that is larger than memory: in files, block by block of patches.

One file holds x_t, another takes x of the next step; then they change places. So a block may be
computed again after a kill: what it reads has not been overwritten. DPM-Solver++ (2M) has two more
files, of its last prediction of x_0. The journal gets a line for every block that is done, and the
same call goes on behind them.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, SchedulerMixin
from torch import Tensor

from patchdm.errors import PatchDMError
from patchdm.files import check_room, replacing
from patchdm.locks import locked
from patchdm.sampling.coarse import Rows, first_step
from patchdm.sampling.denoise import Denoiser
from patchdm.sampling.solve import noised
from patchdm.sampling.solvers import begin
from patchdm.sampling.tilings import Step

SETTINGS, JOURNAL, LOCK = "settings.json", "journal", "lock"
NOISE = "noise"
DRAWN = 64
"""Patches of a row whose noise is drawn at once."""
CANVASES = {DDIMScheduler: ("x0", "x1"), DPMSolverMultistepScheduler: ("x0", "x1", "m0", "m1")}
"""Solvers whose step looks at one place of a canvas alone -> files of float32."""

Span = tuple[int, int]
"""First patch row or column, and the one behind the last."""


@torch.no_grad()
def solve_by_blocks(
    denoiser: Denoiser,
    scheduler: SchedulerMixin,
    folder: Path,
    generator: torch.Generator,
    *,
    num_steps: int,
    side: int,
    settings: Mapping[str, Any],
    image: Rows | None = None,
    strength: float = 1.0,
    spare: int = 0,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Tensor:
    """Denoise one image in a folder, or go on with it.

    Args:
        denoiser: of the canvas.
        scheduler: DDIM or DPM-Solver++ (2M).
        folder: a new or empty one, or one that was begun with the same arguments.
        generator: fresh; gives x_T, a row of patches after the other, `DRAWN` of them at once.
        num_steps: solver steps.
        side: patches of a block along both axes, at most. The image depends on it by rounding.
        settings: what the image follows from, as JSON has it.
        image: rows of the canvas in [-1, 1] to begin with; None: noise alone.
        strength: share of the steps that are then made, the last ones.
        spare: bytes that the disk must have besides, for what is made of the canvas.
        on_progress: called with the number of blocks that are done, of all steps.

    Returns:
        x_0, (1, C, H, W), mapped.

    Raises:
        PatchDMError: the folder is of another image or in use, or its disk has no room.
        ValueError: the solver, the number of steps or the strength does not fit.
    """
    first = 0 if image is None else first_step(strength, num_steps)
    timesteps = begin(scheduler, num_steps, first)
    if (names := CANVASES.get(type(scheduler))) is None:
        known = " or ".join(each.__name__ for each in CANVASES)
        raise ValueError(f"`scheduler` is a {type(scheduler).__name__}, expected {known}")
    grid = denoiser.grid
    p, channels = grid.patch_size, denoiser.unet.config.in_channels
    shape = 1, channels, grid.rows * p, grid.cols * p
    blocks = list(itertools.product(_spans(grid.rows, side), _spans(grid.cols, side)))
    about = {**settings, "shape": shape, "num_steps": num_steps, "side": side}
    there = sum(_allocated(folder / name) for name in names)
    needed = bytes_needed(scheduler, math.prod(shape)) - there + spare
    check_room(folder, needed)  # first: a refusal leaves nothing there
    with _journal(folder, about | {"solver": type(scheduler).__name__}) as journal:
        canvases = {name: _mapped(folder / name, shape) for name in names}
        if NOISE not in journal.done:
            for top in range(0, shape[2], p):
                rows_of_image = image and image(top, top + p)
                for left, right in _spans(shape[3], DRAWN * p):
                    draw = torch.randn((1, channels, p, right - left), generator=generator)
                    part = None if rows_of_image is None else rows_of_image[..., left:right]
                    begun = noised(scheduler, draw, timesteps[first], part)
                    canvases[f"x{first % 2}"][:, :, top : top + p, left:right] = begun
            journal.add(NOISE)
        on_progress(len(journal.done) - 1)
        for index, t in list(enumerate(timesteps))[first:]:
            step = Step(t, index, num_steps)
            now, then = index % 2, (index + 1) % 2
            for rows, cols in blocks:
                line = f"{index} {rows[0]} {cols[0]}"
                if line in journal.done:
                    continue
                at = (..., slice(rows[0] * p, rows[1] * p), slice(cols[0] * p, cols[1] * p))
                x_t = canvases[f"x{now}"][at]
                eps = denoiser.block(canvases[f"x{now}"], step, rows, cols).float().cpu()
                if "m0" in canvases:
                    last = canvases[f"m{now}"][at] if index > first else None
                    _remember(scheduler, index, last)
                    stepped = scheduler.step(eps, t, x_t).prev_sample
                    canvases[f"m{then}"][at] = scheduler.model_outputs[-1]
                else:
                    stepped = scheduler.step(eps, t, x_t, use_clipped_model_output=True).prev_sample
                canvases[f"x{then}"][at] = stepped
                journal.add(line)
                on_progress(len(journal.done) - 1)
        return canvases[f"x{num_steps % 2}"]


def block_count(rows: int, cols: int, side: int) -> int:
    """Return the number of blocks of a canvas."""
    return len(_spans(rows, side)) * len(_spans(cols, side))


def bytes_needed(scheduler: SchedulerMixin, numbers: int) -> int:
    """Return the bytes of the files of a canvas of so many numbers."""
    return 4 * numbers * len(CANVASES.get(type(scheduler), ()))


def _allocated(path: Path) -> int:
    if not path.exists():
        return 0
    found = path.stat()  # Windows counts no blocks, and gives a mapped file its room at once
    return found.st_blocks * 512 if hasattr(found, "st_blocks") else found.st_size


def _remember(scheduler: SchedulerMixin, index: int, last: Tensor | None) -> None:
    """Put a multistep solver before a step of one block, with that block's last prediction."""
    scheduler.model_outputs = [None, last]
    scheduler.lower_order_nums = 0 if last is None else 1
    scheduler._step_index = index  # noqa: SLF001 - it counts calls, which here are of blocks


def _spans(count: int, side: int) -> list[Span]:
    return [(first, min(first + side, count)) for first in range(0, count, side)]


def _mapped(path: Path, shape: tuple[int, ...]) -> Tensor:
    """Map a file of float32, which is created without taking room yet."""
    return torch.from_file(str(path), shared=True, size=math.prod(shape)).view(shape)


class _Journal:
    """The lines of what is done."""

    def __init__(self, path: Path) -> None:
        text = path.read_text() if path.exists() else ""
        whole = text[: text.rfind("\n") + 1]  # a kill may have cut the last line
        self.done = dict.fromkeys(whole.splitlines())
        path.write_text(whole)
        self._file = path.open("a")

    def add(self, line: str) -> None:
        """Write a line, at once."""
        self._file.write(f"{line}\n")
        self._file.flush()
        self.done[line] = None


@contextmanager
def _journal(folder: Path, settings: Mapping[str, Any]) -> Iterator[_Journal]:
    """Yield the journal of a folder, which no other process may use at the same time."""
    folder.mkdir(parents=True, exist_ok=True)
    others = [path.name for path in folder.iterdir() if path.name != LOCK]
    if others and SETTINGS not in others:
        raise PatchDMError(
            f"{folder}: found {others[0]}, expected a new folder, or one that an image was begun in"
        )
    with locked(folder / LOCK) as mine:
        if not mine:
            raise PatchDMError(f"{folder}: another process is at work there")
        about, text = folder / SETTINGS, json.dumps(settings, indent=2, sort_keys=True)
        if about.exists() and about.read_text() != text:
            begun, wanted = json.loads(about.read_text()), json.loads(text)
            key = next(k for k in {**begun, **wanted} if begun.get(k) != wanted.get(k))
            raise PatchDMError(
                f"{about}: the image was begun with {key} = {begun.get(key)!r}, found "
                f"{wanted.get(key)!r}: repeat that command, or remove the folder"
            )
        with replacing(about) as fresh:
            fresh.write_text(text)
        yield _Journal(folder / JOURNAL)
