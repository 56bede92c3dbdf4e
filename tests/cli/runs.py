"""Commands on a finished run, and what refuses them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from patchdm.cli.app import main
from patchdm.formats.shards import read_manifest

MODELS = "data/models"
HEIGHT, WIDTH, P = 16, 32, 8
SAMPLE = {"num_images": 4, "shard_size": 2, "batch_size": 2, "num_steps": 2}
APPLICATIONS = {"num_steps": 2, "resamplings": 2, "code_steps": 1, "code_windows": 1}
STEPS = ["--steps", "2"]


def hole(photo: np.ndarray) -> np.ndarray:
    mask = np.zeros(photo.shape[:2], bool)
    mask[4:17, 11:22] = True
    return mask


def hashes(folder: Path) -> dict[int, str]:
    manifest = read_manifest(folder)
    return dict(zip(manifest["seed"], manifest["sha256"], strict=True))


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Return what lies in a folder, with the content of files."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def refusal(*argv: str) -> str:
    """Return the message with which the command exits."""
    with pytest.raises(SystemExit) as exit_:
        main(argv)
    message = str(exit_.value)
    assert message.startswith("error: ")
    assert "\n" not in message
    return message.removeprefix("error: ")


def refused(work: Path, *argv: str) -> str:
    """Return the line that refuses a command, which must leave everything as it was."""
    before = snapshot(work)
    message = refusal(*argv)
    assert snapshot(work) == before
    return message
