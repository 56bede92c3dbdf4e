"""The trainings of a run, as the studio's page follows them: by what `patchdm watch` draws.

The extra `app` has no matplotlib, so what draws is imported where it is asked for.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchdm.config import Params, load_params
from patchdm.errors import PatchDMError
from patchdm.memory import return_freed_memory

if TYPE_CHECKING:
    from patchdm.report.live import Training
    from patchdm.report.parts import Picture

PARAMS = "params.yaml"
WRONG = f"{PARAMS}: cannot be read as that of a run; `patchdm params check` says why"
"""Without the words of the error, which may have paths of this machine."""
MODELS = ("data", "models")
"""Where a run has its model."""
URL = "/api/training"

Stamp = tuple[tuple[str, int, int], ...]
"""Of files: names, times, sizes."""


def run_folder(model: Path) -> Path | None:
    """Return the run that a model lies in, or else the working folder; None: neither is a run's."""
    folder = model.resolve()
    own = [folder.parents[1]] if folder.parts[-2:] == MODELS else []
    return next((place for place in (*own, Path.cwd()) if (place / PARAMS).is_file()), None)


def can_draw() -> bool:
    """Say whether this install can draw curves: the extra `pipeline` has what it takes."""
    return find_spec("matplotlib") is not None


@dataclass(frozen=True)
class Drawn:
    """Pictures of a training, and the files that they were drawn of."""

    stamp: Stamp
    pictures: Sequence[Picture]


class Trainings:
    """The trainings of a run, looked at one call at a time.

    Args:
        run: its folder; None: the studio is in none.
    """

    def __init__(self, run: Path | None) -> None:
        self._run = None if run is None else run.resolve()
        self._params: Params | None = None
        self._found: list[Training] = []
        self._drawn: dict[Path, Drawn] = {}

    def look(self) -> dict[str, Any]:
        """Return what the API answers of the trainings; pictures are drawn where files changed.

        What is just being written, or cannot be read, keeps the pictures that it had before.

        Raises:
            ModuleNotFoundError: matplotlib is not installed.
        """
        from patchdm.report import live  # noqa: PLC0415 - slow, and not in the extra `app`

        if self._run is None:
            return {"run": None, "error": None, "trainings": []}
        error = None
        try:
            self._params = load_params(self._run / PARAMS)
        except PatchDMError:
            error = WRONG
        if self._params is not None:
            with contextlib.suppress(OSError):  # a file that went at this moment
                self._found = live.trainings(self._run, self._params, self._found)
        self._drawn = {each.folder: self._draw(each) for each in self._found}
        return {
            "run": self._run.name,
            "error": error,
            "trainings": [self._shown(each) for each in self._found],
        }

    def png(self, stage: str, name: str) -> bytes | None:
        """Return a picture of the last look; None: there is none of that name."""
        for training in self._found:
            if training.stage == stage and training.folder in self._drawn:
                for picture in self._drawn[training.folder].pictures:
                    if picture.name == name:
                        return picture.png
        return None

    def _draw(self, training: Training) -> Drawn:
        """Return the pictures of a training, those of before where nothing changed."""
        from patchdm.report import live  # noqa: PLC0415

        earlier = self._drawn.get(training.folder, Drawn((), ()))
        try:
            stamp = _stamp(training.folder)
            if stamp == earlier.stamp:
                return earlier
            fresh = live.pictures(training)
            return_freed_memory()  # as after a job
        except (PatchDMError, OSError):
            return earlier
        named = {each.name: each for each in (*earlier.pictures, *fresh)}
        return Drawn(stamp, sorted(named.values(), key=lambda each: each.name != "sheet"))

    def _shown(self, training: Training) -> dict[str, Any]:
        state = "done" if training.done else "running" if training.running else "stopped"
        names = "stage", "title", "unit", "seen", "total"
        pictures = self._drawn[training.folder].pictures
        return {name: getattr(training, name) for name in names} | {
            "state": state,
            "pace": training.pace(),
            "pictures": [_described(training.stage, each) for each in pictures],
        }


def _described(stage: str, picture: Picture) -> dict[str, Any]:
    """Return what is said of a picture; its URL is another one when it changes."""
    width, height = picture.size
    version = hashlib.sha256(picture.png).hexdigest()[:16]
    url = f"{URL}/{stage}/{picture.name}.png?{version}"
    names = "name", "title", "caption"
    found = {name: getattr(picture, name) for name in names}
    return found | {"width": width, "height": height, "url": url}


def _stamp(folder: Path) -> Stamp:
    """Return what tells whether the curves, or the newest sheet, of a training changed."""
    curves = sorted((folder / "curves/plots/metrics").glob("*.tsv"))
    newest = sorted((folder / "sheets").glob("[0-9]*.png"))[-1:]
    facts = [(path.name, path.stat()) for path in (*curves, *newest)]
    return tuple((name, fact.st_mtime_ns, fact.st_size) for name, fact in facts)
