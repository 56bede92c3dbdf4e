"""Run a command so that none of its processes outlives it, or the process that started us.

`python supervise.py PARENT_PID COMMAND...` exits with the command's code, or 128 + the signal that
ended it. SIGTERM, and the death of the starting thread (Linux), ask every process below us to end;
after GRACE seconds the rest is killed. A command that dies leaves nothing behind either: on Linux
its orphans become our children. It is a separate file, since it must start in milliseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys

import psutil

GRACE = 3.0
"""Seconds a stage has to save its progress."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def main(parent: int, command: list[str]) -> int:
    """Run the command to its end and return its exit code."""
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C: our parent decides
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    die_with_parent()
    if os.getppid() != parent:  # it died before we could ask for the signal
        return 128 + signal.SIGTERM
    try:
        child = subprocess.Popen(  # noqa: S603 - the flow's own command
            command,
            # In case we are killed. We have one thread, so preexec_fn is safe here.
            preexec_fn=die_with_parent,  # noqa: PLW1509
        )
        code = child.wait()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        end_descendants()
    return code if code >= 0 else 128 - code


def die_with_parent() -> None:
    """Ask the kernel (Linux) for SIGTERM when the thread that started us ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def end_descendants() -> None:
    """Ask all processes below this one to end, and kill those that do not."""
    number, patience = signal.SIGTERM, GRACE
    while alive := _alive():  # also processes started meanwhile
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        psutil.wait_procs(alive, timeout=patience)
        number, patience = signal.SIGKILL, 1.0


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value)


def _alive() -> list[psutil.Process]:
    alive = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                alive.append(process)
    return alive


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
