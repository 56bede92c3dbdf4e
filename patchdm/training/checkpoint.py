"""Checkpoints of a training: complete, checked when read, the last two kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from patchdm.files import replacing, sha256

KEPT = 2


class Checkpoints:
    """The checkpoints in a folder, named `<step>-<start of the file's sha256>.pt`.

    The hash in the name makes a damaged file known before it is used.
    """

    def __init__(self, folder: Path, warn: Callable[[str], None]) -> None:
        self.folder = folder
        self.warn = warn

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the state of a step and remove all but the newest."""
        fresh = self.folder / "fresh.pt"
        with replacing(fresh) as path, path.open("wb") as file:
            torch.save(state, file)  # given a path, torch hides that the disk is full
        fresh.rename(self.folder / f"{step:010d}-{sha256(fresh)[:16]}.pt")
        for path in self._paths()[:-KEPT]:
            path.unlink()

    def load(self) -> dict[str, Any] | None:
        """Return the newest undamaged state, or None; a damaged one is warned of and removed."""
        for path in reversed(self._paths()):
            if path.stem.endswith(sha256(path)[:16]):
                state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
                return state
            self.warn(f"{path}: damaged checkpoint, going back to the one before")
            path.unlink()
        return None

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("??????????-*.pt"))
