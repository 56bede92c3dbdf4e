"""Progress and warnings of commands and stages, on standard error.

A terminal shows a bar. A file, a pipe or a CI log gets plain lines in ASCII, which flows parse:
`train_patchdm: 12,800 of 150,000 windows, 131/s, 17 min left`.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

FIRST_LINE_SECONDS = 2.0
SECONDS_BETWEEN_LINES = 25.0
"""The promise is 30; a busy machine wakes a thread late."""

_RECENT_SECONDS = 60.0
_RECENT_POINTS = 4
_SETTLING_SECONDS = 1.0
"""Progress reported so soon after the first report is that of an earlier, killed process."""

_RATE = r"\d[\d,.]*/(?:s|min|h)"
_DURATION = r"\d+ (?:s|min|h|d)(?: \d+ (?:min|h))?"
_LINE = re.compile(
    r"(?P<name>.+): (?P<done>\d[\d,]*)(?: of (?P<total>\d[\d,]*))? (?P<unit>\w+)"
    rf"(?:, (?P<pace>{_RATE}(?:, {_DURATION} left)?|(?:done in|ended after) {_DURATION}))?"
)


@dataclass(frozen=True)
class Line:
    """The content of a progress line; `str(line)` is the line."""

    name: str
    done: int
    total: int
    """0: not known."""
    unit: str
    pace: str
    """Rate and time left, or at the end the total time; empty: not known yet."""

    def __str__(self) -> str:
        of_total = f" of {self.total:,}" if self.total else ""
        pace = f", {self.pace}" if self.pace else ""
        return f"{self.name}: {self.done:,}{of_total} {self.unit}{pace}"


def read_line(text: str) -> Line | None:
    """Parse a progress line; None: the text is no such line."""
    match = _LINE.fullmatch(text)
    if match is None:
        return None
    done, total = (int((match[key] or "0").replace(",", "")) for key in ("done", "total"))
    return Line(match["name"], done, total, match["unit"], match["pace"] or "")


@contextlib.contextmanager
def progress(name: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Show progress, rate and time left; yield the function that sets how much is done.

    Without a terminal, a line is printed soon after the start, at least every 30 s, even if the
    work does not advance, and at the end.

    Args:
        total: units of the whole work; 0: not known.
        unit: what is counted, one word.
    """
    meter = Meter(name, total, unit)
    console = Console(stderr=True)
    animated = sys.stderr.isatty() and console.is_interactive  # which a dumb terminal is not
    with _bar(meter, console) if animated else _lines(meter) as advance_to:
        yield advance_to


@contextlib.contextmanager
def counted(name: str, unit: str) -> Iterator[Callable[[int], Callable[[int], None]]]:
    """Show progress once the units of the whole work are known; yield what is told them."""
    with contextlib.ExitStack() as stack:
        yield lambda total: stack.enter_context(progress(name, total, unit))


def stepped(name: str, unit: str, steps: Sequence[int]) -> Iterator[int]:
    """Yield the steps of a work under their progress."""
    with progress(name, len(steps), unit) as advance_to:
        for done, step in enumerate(steps, 1):
            yield step
            advance_to(done)


def warn(message: str) -> None:
    """Print a problem that does not stop the work."""
    say(f"warning: {message}")


class Meter:
    """The progress of a work and its recent rate.

    The rate counts only the work of this process, not that of an earlier one.
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
            while len(points) > _RECENT_POINTS and points[1][0] <= now - _RECENT_SECONDS:
                points.pop(0)

    def line(self) -> Line:
        """Return the present line."""
        with self._lock:
            rate = self._rate()
            pace = _rate_text(rate) if rate else ""
            if rate and self._done < self.total:
                pace += f", {_duration((self.total - self._done) / rate)} left"
            return Line(self.name, self._done, self.total, self.unit, pace)

    def last_line(self) -> Line:
        """Return the line at the end."""
        ended = "done in" if self._done >= self.total else "ended after"
        pace = f"{ended} {_duration(self._clock() - self._start)}"
        return Line(self.name, self._done, self.total, self.unit, pace)

    def _rate(self) -> float:
        """Return the units per second; 0: not known."""
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
    """Print lines from a thread, so that a step of minutes does not delay them.

    After an error there is no last line.
    """
    over = threading.Event()

    def talk() -> None:
        seconds = FIRST_LINE_SECONDS
        while not over.wait(seconds):
            say(str(meter.line()))
            seconds = SECONDS_BETWEEN_LINES

    thread = threading.Thread(target=talk, daemon=True)
    thread.start()
    try:
        yield meter.advance_to
    finally:
        over.set()
        thread.join()
    say(str(meter.last_line()))


def say(text: str) -> None:
    """Print a line on standard error, if anybody reads it."""
    with contextlib.suppress(OSError):  # nobody reads any more, but the work continues
        sys.stderr.write(f"{text}\n")


def _rate_text(per_second: float) -> str:
    """Return a rate in the unit of time that makes it 1 or more, such as 131/s or 2.4/min."""
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
    """Escape characters that a terminal's encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
