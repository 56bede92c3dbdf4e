"""The terminal of commands and stages, on standard error: progress and warnings.

A terminal gets a bar. A file, a pipe or a log of CI gets plain lines in ASCII, which flows read:
`train_patchdm: 12,800 of 150,000 windows, 131/s, 17 min left`.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

FIRST_LINE_SECONDS = 2.0
SECONDS_BETWEEN_LINES = 25.0
"""30 are promised; a busy machine wakes a thread late."""

_WINDOW_SECONDS = 60.0
_WINDOW_POINTS = 4
_SETTLING_SECONDS = 1.0
"""What is reported so soon after the first report was done by an earlier, killed process."""

_RATE = r"\d[\d,.]*/(?:s|min|h)"
_DURATION = r"\d+ (?:s|min|h|d)(?: \d+ (?:min|h))?"
_LINE = re.compile(
    r"(?P<name>.+): (?P<done>\d[\d,]*)(?: of (?P<total>\d[\d,]*))? (?P<unit>\w+)"
    rf"(?:, (?P<pace>{_RATE}(?:, {_DURATION} left)?|(?:done in|ended after) {_DURATION}))?"
)


@dataclass(frozen=True)
class Line:
    """What a line of progress says; `str(line)` is the line."""

    name: str
    done: int
    total: int
    """0: not known."""
    unit: str
    pace: str
    """Rate and time left, or the time that it took; empty: not known yet."""

    def __str__(self) -> str:
        of_total = f" of {self.total:,}" if self.total else ""
        pace = f", {self.pace}" if self.pace else ""
        return f"{self.name}: {self.done:,}{of_total} {self.unit}{pace}"


def read_line(text: str) -> Line | None:
    """Read a line of progress back; None: it is none."""
    match = _LINE.fullmatch(text)
    if match is None:
        return None
    done, total = (int((match[key] or "0").replace(",", "")) for key in ("done", "total"))
    return Line(match["name"], done, total, match["unit"], match["pace"] or "")


@contextlib.contextmanager
def progress(name: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Show how far a work is, its rate and the time left; yield what sets how much is done.

    Without a terminal, a line comes soon after the start, then at least every 30 s, whether or not
    the work advances, and one at the end.

    Args:
        name: of the stage or command.
        total: how much there is to do; 0: not known.
        unit: what is counted, one word.
    """
    meter = Meter(name, total, unit)
    console = Console(stderr=True)
    animated = sys.stderr.isatty() and console.is_interactive  # which a dumb terminal is not
    with _bar(meter, console) if animated else _lines(meter) as advance_to:
        yield advance_to


def warn(message: str) -> None:
    """Say what went wrong but does not stop the work."""
    _say(f"warning: {message}")


class Meter:
    """How far a work is, and how fast it went in the recent past.

    The rate counts what this process does: not what it finds done by an earlier one.
    """

    def __init__(
        self, name: str, total: int, unit: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name, self.total, self.unit = name, total, unit
        self._clock = clock
        self._start = self._first_report = clock()
        self._done = 0
        self._points: list[tuple[float, int]] = []  # of the last minute: time, done; 1 s apart
        self._lock = threading.Lock()

    def advance_to(self, done: int) -> None:
        """Set how much is done."""
        now, done = self._clock(), int(done)
        with self._lock:
            self._done, points = done, self._points
            if not points:
                self._first_report = now
            if now - self._first_report < _SETTLING_SECONDS:
                points[:] = [(now, done)]
            elif now - points[-1][0] >= 1.0:
                points.append((now, done))
            while len(points) > _WINDOW_POINTS and points[1][0] <= now - _WINDOW_SECONDS:
                points.pop(0)

    def line(self) -> Line:
        """Return what there is to say now."""
        with self._lock:
            rate = self._rate()
            pace = f"{_rate_text(rate)}" if rate else ""
            if rate and self._done < self.total:
                pace += f", {_duration((self.total - self._done) / rate)} left"
            return Line(self.name, self._done, self.total, self.unit, pace)

    def last_line(self) -> Line:
        """Return what there is to say at the end."""
        ended = "done in" if self._done >= self.total else "ended after"
        pace = f"{ended} {_duration(self._clock() - self._start)}"
        return Line(self.name, self._done, self.total, self.unit, pace)

    def _rate(self) -> float:
        """Return the units a second; 0: not known."""
        if not self._points:
            return 0.0
        then, done_then = self._points[0]
        seconds = self._clock() - then
        return max(0.0, (self._done - done_then) / seconds) if seconds else 0.0


@contextlib.contextmanager
def _bar(meter: Meter, console: Console) -> Iterator[Callable[[int], None]]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(meter.name, total=meter.total or None, pace="")

        def advance_to(done: int) -> None:
            meter.advance_to(done)
            bar.update(task, completed=done, pace=meter.line().pace)

        yield advance_to


@contextlib.contextmanager
def _lines(meter: Meter) -> Iterator[Callable[[int], None]]:
    """Print lines from a thread, which a step that takes minutes does not hold up.

    After an error there is no last line: the error is that.
    """
    over = threading.Event()

    def talk() -> None:
        seconds = FIRST_LINE_SECONDS
        while not over.wait(seconds):
            _say(str(meter.line()))
            seconds = SECONDS_BETWEEN_LINES

    thread = threading.Thread(target=talk, daemon=True)
    thread.start()
    try:
        yield meter.advance_to
    finally:
        over.set()
        thread.join()
    _say(str(meter.last_line()))


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads any more, which ends no work
        sys.stderr.write(f"{text}\n")


def _rate_text(per_second: float) -> str:
    """Return a rate in the unit of time in which it is 1 or more, such as 131/s or 2.4/min."""
    per_minute, per_hour = 60 * per_second, 3600 * per_second
    rates = ((per_second, "s"), (per_minute, "min"), (per_hour, "h"))
    value, unit = next((rate for rate in rates if rate[0] >= 1.0), rates[-1])
    return f"{value:,.0f}/{unit}" if value >= 10 else f"{value:.1f}/{unit}"


def _duration(seconds: float) -> str:
    """Return a time in one or two units, such as 42 s, 17 min, 3 h 20 min or 4 d 2 h."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def show_any_text() -> None:
    """Let output escape the characters that a terminal's encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
