"""A model's stand-in for tests of shards, and processes of their own that write them."""

from __future__ import annotations

import functools
import multiprocessing
import signal
import tarfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from patchdm.formats.images import Pixels
from patchdm.sampling.write import PROGRESS, write_shards
from tests.photographs import contents

SETTINGS = {"weights": "abc", "num_steps": 3}
Drawing = Callable[[Sequence[int]], Pixels]
Process = multiprocessing.context.ForkProcess


def draw(seeds: Sequence[int]) -> Pixels:
    """Return noise of 6 x 10 pixels for each seed."""
    return np.stack(
        [np.random.default_rng(seed).integers(0, 256, (6, 10, 3), np.uint8) for seed in seeds]
    )


def logged(log: Path, seconds: float = 0.0) -> Drawing:
    """Return `draw`, which takes its time and then writes the batch to a log, one line."""

    def drawing(seeds: Sequence[int]) -> Pixels:
        time.sleep(seconds)
        with log.open("a") as file:
            file.write(" ".join(map(str, seeds)) + "\n")
        return draw(seeds)

    return drawing


def write(out: Path, drawing: Drawing = draw, seeds: range = range(12), **changes: Any) -> bool:
    """Write shards with small settings."""
    progress: Callable[[int], None] = changes.pop("on_progress", lambda _: None)
    options = {"shard_size": 5, "batch_size": 2, "format": "png", "settings": SETTINGS} | changes
    return write_shards(
        functools.partial(map, drawing), seeds, out, on_progress=progress, **options
    )


def start(*arguments: Any, **changes: Any) -> Process:
    """Start a process that writes shards; forked, as imports take longer than all the rest."""
    process = multiprocessing.get_context("fork").Process(
        target=write, args=arguments, kwargs=changes
    )
    process.start()
    return process


def published(out: Path) -> dict[str, bytes]:
    """Return what a reader sees: everything but the progress."""
    found = contents(out)
    return {name: found[name] for name in found if not name.startswith(PROGRESS)}


def pngs(out: Path) -> dict[int, bytes]:
    """Return the bytes of every image, from folders or tars."""
    found = {}
    for name, content in contents(out).items():
        if name.endswith(".tar"):
            with tarfile.open(out / name) as tar:
                images = [member for member in tar if member.name.endswith(".png")]
                found |= {int(m.name[:-4]): tar.extractfile(m).read() for m in images}
        elif name.endswith(".png"):
            found[int(Path(name).stem)] = content
    return found


def drawn(log: Path) -> list[int]:
    """Return the seeds that were drawn, in order."""
    return [int(seed) for seed in log.read_text().split()] if log.exists() else []


def kill(process: Process) -> None:
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
