"""A page of trainings that run: curves, the newest sheet of samples, the time that is left.

It reads what a training leaves in its own folder of `.state/` and writes nothing there.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from patchdm.config import Params
from patchdm.errors import PatchDMError
from patchdm.formats.images import read_image
from patchdm.report import figures
from patchdm.report.gallery import curve_pictures
from patchdm.report.parts import Picture

LOCKS = Path("/proc/locks")
"""Who holds which file, on Linux: asked so that no lock is touched."""
_QUIET = 600.0
"""Seconds without a new point of its curves after which a training counts as ended elsewhere."""
_RECENT = 4
"""Marks of which the rate is taken."""

Mark = tuple[float, int]
"""A time, and how many items were seen then."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """A training as its folder shows it."""

    stage: str
    title: str
    unit: str
    folder: Path
    total: int
    marks: Sequence[Mark]  # ascending
    running: bool

    @property
    def seen(self) -> int:
        """Items seen at the last point of the curves."""
        return self.marks[-1][1] if self.marks else 0

    @property
    def done(self) -> bool:
        """Whether it saw all that it should."""
        return self.seen >= self.total

    @property
    def rate(self) -> float:
        """Items per second between the last marks; 0: not known."""
        recent = self.marks[-_RECENT:]
        if len(recent) < 2 or recent[-1][0] - recent[0][0] < 1:
            return 0.0
        return (recent[-1][1] - recent[0][1]) / (recent[-1][0] - recent[0][0])

    def pace(self, now: float | None = None) -> str:
        """Say how far it is, how fast, and how long it still takes."""
        text = f"{self.seen:,} of {self.total:,} {self.unit}"
        if self.done:
            return f"{text}, done"
        if not self.running:
            return f"{text}, not running"
        if not self.rate:
            return f"{text}, the time left is known soon"
        since = (now or time.time()) - self.marks[-1][0]
        left = max(0.0, (self.total - self.seen) / self.rate - since)
        return f"{text}, {self.rate:,.0f}/s, {_duration(left)} left"


def trainings(run: Path, params: Params, earlier: Sequence[Training] = ()) -> list[Training]:
    """Return the trainings of a run that have begun; `earlier` is what this returned before."""
    marks = {training.folder: training.marks for training in earlier}
    found = []
    for stage, title, unit, total in (
        ("train_patchdm", "U-Net and codes", "images", params.train.images_seen),
        ("train_latent", "Latent model", "codes", params.latent.codes_seen),
    ):
        losses = (run / ".state" / stage).glob("*/curves/plots/metrics/loss.tsv")
        if latest := max(losses, key=_changed, default=None):
            folder = latest.parents[3]
            known = _marks(folder, latest, marks.get(folder, ()))
            running = _is_held(folder / "lock", latest) and bool(known)
            found.append(
                Training(
                    stage=stage, title=title, unit=unit, folder=folder, total=total, marks=known,
                    running=running,
                )
            )  # fmt: skip
    return found


def render(run: Path, found: Sequence[Training], refresh: float) -> str:
    """Return the page, which loads itself again after so many seconds; 0: never.

    Raises:
        PatchDMError: a curve or sheet is damaged, or just being written.
    """
    template = files("patchdm.report").joinpath("live.html").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    shown = [(each, pictures(each)) for each in found]
    clock = time.strftime("%H:%M:%S")
    return environment.from_string(template).render(
        name=run.resolve().name, shown=shown, refresh=round(refresh), clock=clock
    )


def pictures(training: Training) -> list[Picture]:
    """Return the newest sheet, then the curves, which may be missing as long as it runs.

    Raises:
        PatchDMError: a curve or sheet is damaged, or just being written.
    """
    found = []
    sheets = sorted((training.folder / "sheets").glob("[0-9]*.png"))
    if sheets:
        image = figures.picture(read_image(sheets[-1]))
        title = f"Samples after {int(sheets[-1].stem):,} {training.unit}"
        found.append(Picture("sheet", title, "By the averaged weights.", image))
    try:
        return found + curve_pictures(
            training.folder / "curves", training.title, f"{training.unit} seen"
        )
    except PatchDMError:  # not all curves have begun
        if training.running:
            return found
        raise


def _marks(folder: Path, losses: Path, earlier: Sequence[Mark]) -> list[Mark]:
    """Return when how many items were seen: by the sheets, the curves, and what was known."""
    sheets = folder.glob("sheets/[0-9]*.png")
    found = [*earlier, *((_changed(path), int(path.stem)) for path in sheets)]
    lines = losses.read_text().splitlines()
    if len(lines) > 1 and (number := lines[-1].partition("\t")[0]).isdecimal():
        found.append((_changed(losses), int(number)))
    ascending = list[Mark]()
    for mark in sorted(set(found)):
        if not ascending or mark[1] > ascending[-1][1]:
            ascending.append(mark)
    return ascending


def _is_held(lock: Path, losses: Path) -> bool:
    """Say whether a stage holds its lock, or else, without Linux, has written lately."""
    try:
        held, inode = LOCKS.read_text(), lock.stat().st_ino
    except OSError:
        return time.time() - _changed(losses) < _QUIET
    return any(
        " FLOCK " in line and " WRITE " in line and line.split()[5].endswith(f":{inode}")
        for line in held.splitlines()
        if "->" not in line  # one that waits
    )


def _changed(path: Path) -> float:
    return path.stat().st_mtime


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
