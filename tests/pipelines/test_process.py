"""No process is left, whoever dies first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest

from pipelines import process, supervise

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="orphans are caught on Linux only")

# As DVC is: its child, as a stage is, sits in a session of its own and even ignores SIGTERM.
COMMAND = """\
import subprocess, sys, time
child = subprocess.Popen(
    [sys.executable, "-c", "import signal, sys, time; signal.signal(15, signal.SIG_IGN);"
     "print('ready', flush=True); time.sleep(60)"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """A folder with the module `command`."""
    (tmp_path / "command.py").write_text(COMMAND)
    return tmp_path


def gone(pid: int, seconds: float) -> bool:
    """Whether a process ends in time."""
    deadline = time.monotonic() + seconds
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_lines_come_as_they_are_printed_and_without_escapes(tmp_path: Path):
    (tmp_path / "lines.py").write_text(
        "import sys; sys.stdout.write('\\x1b[2Kone\\rtwo\\n\\nthree'); print(file=sys.stderr)\n"
        "sys.exit(3)"
    )
    lines: list[str] = []
    assert process.run(["lines"], lines.append, tmp_path) == 3
    assert lines == ["one", "two", "three"]


def test_stages_find_our_python_and_no_standard_input(tmp_path: Path):
    (tmp_path / "which.py").write_text(
        "import os, sys; os.system('python -c \"import sys; print(sys.prefix)\"'); "
        "print(repr(sys.stdin.read()))"
    )
    lines: list[str] = []
    assert process.run(["which"], lines.append, tmp_path) == 0
    assert lines == [sys.prefix, "''"]


def run_until_ready(module: Path, act: str) -> tuple[int, int, float]:
    """Run the command, do something to it when its child is ready; return what came of it."""
    pids: list[int] = []

    def on_line(line: str) -> None:
        if line != "ready":
            pids.append(int(line))
            return
        command = psutil.Process(pids[0]).parent()
        match act:
            case "end":
                threading.Thread(target=process.end_all).start()
            case "kill the command":
                command.kill()

    start = time.monotonic()
    code = process.run(["command"], on_line, module)
    return code, pids[0], time.monotonic() - start


@pytest.mark.parametrize(
    ("act", "code"), [("end", 128 + signal.SIGTERM), ("kill the command", 128 + signal.SIGKILL)]
)
def test_nothing_is_left_of_a_command(module: Path, act: str, code: int):
    found, pid, seconds = run_until_ready(module, act)
    assert found == code
    assert gone(pid, seconds=10)
    assert seconds < supervise.GRACE + 20  # a busy machine starts processes slowly


def test_a_process_that_dies_takes_its_commands_along(module: Path):
    script = f"""
        import sys
        sys.path.insert(0, {str(Path(process.__file__).parents[1])!r})
        from pathlib import Path
        from pipelines import process
        process.run(["command"], lambda line: print(line, flush=True), Path({str(module)!r}))
    """
    flow = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True
    )
    assert flow.stdout is not None
    pid = int(flow.stdout.readline())
    assert flow.stdout.readline() == "ready\n"
    family = [child.pid for child in psutil.Process(flow.pid).children(recursive=True)]
    assert pid in family
    os.kill(flow.pid, signal.SIGKILL)
    flow.wait()
    assert all(gone(member, seconds=60) for member in family)
