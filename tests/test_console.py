"""Progress without a terminal, and with one."""

from __future__ import annotations

import itertools
import os
import pty
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchdm import console
from patchdm.console import Meter, read_line
from tests.conftest import REPO


class Clock:
    """A clock that is set by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def meter(clock: Clock) -> Meter:
    return Meter("train_patchdm", 150_000, "windows", clock)


def work(meter: Meter, clock: Clock, start: int, stop: int, *, each: int, seconds: float) -> None:
    """Report work from `start` to `stop` in steps."""
    for done in range(start + each, stop + 1, each):
        clock.now += seconds
        meter.advance_to(done)


def test_a_line_says_stage_done_total_unit_rate_and_time_left(meter: Meter, clock: Clock):
    assert str(meter.line()) == "train_patchdm: 0 of 150,000 windows"
    work(meter, clock, 0, 12_800, each=32, seconds=0.25)
    expected = "train_patchdm: 12,800 of 150,000 windows, 128/s, 18 min left"
    assert str(meter.line()) == expected
    work(meter, clock, 12_800, 150_000, each=1400, seconds=10.5)
    assert str(meter.line()) == "train_patchdm: 150,000 of 150,000 windows, 133/s"
    assert str(meter.last_line()) == "train_patchdm: 150,000 of 150,000 windows, done in 19 min"


def test_what_an_earlier_process_did_counts_for_no_rate(meter: Meter, clock: Clock):
    clock.now += 20
    work(meter, clock, 0, 60_000, each=1000, seconds=0.001)  # parts that are found done
    assert meter.line().pace == ""
    work(meter, clock, 60_000, 60_100, each=10, seconds=2)
    assert meter.line().pace == "5.0/s, 5 h 0 min left"


def test_the_rate_is_that_of_the_recent_past(meter: Meter, clock: Clock):
    work(meter, clock, 0, 1000, each=10, seconds=1)
    work(meter, clock, 1000, 21_000, each=100, seconds=0.5)
    assert meter.line().pace.startswith("200/s, ")


def test_slow_steps_have_a_rate(meter: Meter, clock: Clock):
    work(meter, clock, 0, 10, each=1, seconds=90)
    assert meter.line().pace == "40/h, 156 d 5 h left"
    clock.now += 80  # in the midst of a step
    assert meter.line().pace.startswith("31/h, ")
    work(meter, clock, 10, 20, each=1, seconds=15)
    assert meter.line().pace.startswith("4.0/min, ")


def test_a_work_that_hangs_slows_down(meter: Meter, clock: Clock):
    work(meter, clock, 0, 6000, each=100, seconds=1)
    assert meter.line().pace.startswith("100/s, ")
    clock.now += 600
    rate, unit = meter.line().pace.partition(", ")[0].split("/")
    assert (float(rate), unit) < (10, "s")
    work(meter, clock, 6000, 12_200, each=100, seconds=1)  # and recovers
    assert meter.line().pace.startswith("100/s, ")


def test_more_and_less_than_the_total(meter: Meter, clock: Clock):
    work(meter, clock, 0, 400, each=100, seconds=1)
    assert str(meter.last_line()) == "train_patchdm: 400 of 150,000 windows, ended after 4 s"
    meter.advance_to(0)  # what was found done is made again
    assert meter.line().pace == ""
    unknown = Meter("download", 0, "MiB", clock)
    work(unknown, clock, 0, 2048, each=16, seconds=1)
    assert str(unknown.line()) == "download: 2,048 MiB, 16/s"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (99.4, "99 s"), (100, "2 min"), (5969, "99 min"), (5970, "1 h 40 min"),
     (86_400, "24 h 0 min"), (180_000, "2 d 2 h")],
)  # fmt: skip
def test_durations(seconds: float, text: str):
    assert console._duration(seconds) == text


_NAMES = st.text(min_size=1).filter(lambda name: "\n" not in name and name.isprintable())
_STEPS = st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 10**12)), max_size=12)


@given(_NAMES, st.integers(0, 10**12), st.sampled_from(["images", "MiB"]), _STEPS)
def test_every_line_is_read_back(name: str, total: int, unit: str, steps: list[tuple[float, int]]):
    clock = Clock()
    meter = Meter(name, total, unit, clock)
    for seconds, done in steps:
        clock.now += seconds
        meter.advance_to(done)
    for line in (meter.line(), meter.last_line()):
        assert read_line(str(line)) == line


def test_steps_are_counted(capsys: pytest.CaptureFixture[str]):
    assert list(console.stepped("fit", "steps", range(3, 6))) == [3, 4, 5]
    assert capsys.readouterr().err == "fit: 3 of 3 steps, done in 0 s\n"


def test_lines_are_ascii(meter: Meter, clock: Clock):
    work(meter, clock, 0, 400, each=100, seconds=50)
    assert str(meter.line()).isascii()
    assert str(meter.last_line()).isascii()


@pytest.mark.parametrize(
    "text",
    ["Running stage 'a':", "a.json: 1/2 done", "warning: 3 of 4 photographs left out, see x",
     "error: data/raw: found 3 train images, expected 4 images or more", "x: 3 of 4", ""],
)  # fmt: skip
def test_other_lines_are_not_read(text: str):
    assert read_line(text) is None


SCRIPT = """\
import sys, time
from patchdm import console
console.FIRST_LINE_SECONDS, console.SECONDS_BETWEEN_LINES = 0.2, 0.5
with console.progress("stage", 40, "images") as advance_to:
    advance_to(10)
    console.warn("x " * 100 + "\\u2192 [red]end[/red]")
    time.sleep(float(sys.argv[1]))  # one long step
    if len(sys.argv) > 2:
        raise ValueError("it failed")
    advance_to(40)
"""


def run(*arguments: str, **environment: str) -> str:
    """Run the script with both streams in a pipe; return what it says on standard error."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        env=os.environ | {"PYTHONPATH": str(REPO)} | environment,
        capture_output=True,
        text=True,
        encoding="ascii",
        check=False,
    )
    assert done.stdout == ""
    return done.stderr


WARNING = "warning: " + "x " * 100 + r"\u2192 [red]end[/red]"
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize("wish", [{}, {"FORCE_COLOR": "1", "TTY_COMPATIBLE": "1", "CI": "1"}])
def test_without_a_terminal_lines_come_though_nothing_advances(wish: dict[str, str]):
    warning, *lines = run("1.4", **C_LOCALE, **wish).splitlines()
    assert warning == WARNING
    assert lines[:-1] == ["stage: 10 of 40 images"] * 3
    assert lines[-1] in {f"stage: 40 of 40 images, done in {n} s" for n in range(1, 20)}


def test_short_works_say_one_line():
    assert run("0", **C_LOCALE).splitlines() == [
        WARNING,
        "stage: 40 of 40 images, done in 0 s",
    ]


def test_after_an_error_the_error_is_last():
    assert run("0", "fail", **C_LOCALE).splitlines()[-1] == "ValueError: it failed"


def test_a_reader_that_has_gone_ends_no_work():
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, "0.4"],
        env=os.environ | {"PYTHONPATH": str(REPO)},
        stderr=writing,
    )
    os.close(writing)
    os.close(reading)
    assert process.wait() == 0


def in_terminal(*arguments: str, **environment: str) -> str:
    """Run the script with standard error in a terminal; return what it draws there."""
    ours, its = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments],
        env=os.environ | {"PYTHONPATH": str(REPO), "TERM": "xterm"} | environment,
        stderr=its,
    )
    os.close(its)
    drawn = b""
    try:
        while part := os.read(ours, 65536):
            drawn += part
    except OSError:  # the terminal has nobody left
        pass
    os.close(ours)
    assert process.wait() == 0
    return drawn.decode()


def test_a_terminal_has_a_bar():
    drawn = in_terminal("0.3")
    assert "\x1b[" in drawn
    assert "40/40" in drawn
    assert "images, done" not in drawn


def test_a_dumb_terminal_has_lines():
    drawn = in_terminal("0.3", TERM="dumb")
    assert "\x1b[" not in drawn
    assert "stage: 40 of 40 images, done in" in drawn


def test_promises():
    """At least every 30 s, and not more than two lines in 30 s of one stage."""
    times = [console.FIRST_LINE_SECONDS + n * console.SECONDS_BETWEEN_LINES for n in range(9)]
    gaps = [later - earlier for earlier, later in itertools.pairwise([0.0, *times])]
    assert max(gaps) < 30
    assert max(sum(start <= time < start + 30 for time in times) for start in times) <= 2
