"""What Windows lacks and has, on Linux: modules that cannot be imported, and its locks.

`python -m tests.fake_windows COMMAND...` runs the `patchdm` command with less than Linux has:
without the modules and functions that Windows does not know, and with `msvcrt.locking`.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import struct
import sys
from types import ModuleType
from typing import Any

from tests.absent import without

LACKING = ("fcntl", "grp", "pwd", "resource", "termios")
FUNCTIONS = ("fork", "forkpty", "getuid", "geteuid", "preadv", "sched_getaffinity")
SIGNALS = ("SIGPIPE", "SIGKILL", "SIGCHLD", "SIGHUP", "SIGALRM", "SIGUSR1")
_FLOCK = "hhqqi4x"
"""struct flock of Linux: type, whence, start, length, pid."""


def msvcrt() -> ModuleType:
    """Return the locks of Windows: of ranges of bytes, by the open file description of Linux."""
    module: Any = ModuleType("msvcrt")
    module.LK_NBLCK, module.LK_UNLCK = 2, 0

    def locking(file: int, mode: int, count: int) -> None:
        assert mode == module.LK_NBLCK
        first = os.lseek(file, 0, os.SEEK_CUR)
        wanted = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, first, count, 0)
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, wanted)  # an OSError where it is not to be had

    module.locking = locking
    return module


def windows() -> None:
    """Make this process one of Windows, as far as what it imports and calls goes."""
    sys.modules["msvcrt"] = msvcrt()
    without(LACKING)
    for place, names in ((os, FUNCTIONS), (signal, SIGNALS)):
        for name in names:
            vars(place).pop(name, None)
    sys.platform = "linux, as Windows"
    real = multiprocessing.get_context

    def get_context(method: str | None = None) -> Any:
        if method in {"fork", "forkserver"}:
            raise ValueError(f"cannot find context for {method!r}")
        return real(method or "spawn")

    multiprocessing.get_context = get_context  # type: ignore[assignment]


if __name__ == "__main__":
    import torch  # noqa: F401 - it asks for the platform, and would look for Windows' libraries

    windows()
    from patchdm.cli.app import main

    main()
