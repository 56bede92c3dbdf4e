"""Child processes of a flow: their output line by line, and none is left behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from pipelines import supervise

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

ending = threading.Event()
"""Set when this process should end."""

_running: set[subprocess.Popen[str]] = set()


def run(command: Sequence[str], on_line: Callable[[str], None], cwd: Path) -> int:
    """Run a Python module such as `dvc repro`; give `on_line` every line; return the exit code."""
    # Stages call `python`: that is this one.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    with subprocess.Popen(  # noqa: S603 - our own modules
        supervised(command),
        cwd=cwd,
        env=os.environ | {"PATH": path, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        process_group=0,  # a terminal's Ctrl-C reaches the flow alone, which then ends us
    ) as child:
        _running.add(child)
        try:
            for line in child.stdout or ():  # lines also end at a carriage return
                if text := _ESCAPES.sub("", line).rstrip():
                    on_line(text)
            return child.wait()
        finally:
            _running.discard(child)
            child.terminate()


def end_all() -> None:
    """Ask all children to end; `supervise` ensures that they do."""
    ending.set()
    for child in list(_running):
        child.terminate()


def supervised(command: Sequence[str]) -> list[str]:
    """Return the command line of a Python module under supervision."""
    return [sys.executable, supervise.__file__, str(os.getpid()), sys.executable, "-m", *command]
