"""Locks between processes, which the system frees when a process dies, on Linux, macOS and Windows.

A lock is an open file. Windows has no `flock`, but locks ranges of bytes, which need not exist: a
shared lock is one byte of a range there, an exclusive one is the whole range.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


def _module(name: str) -> Any:
    """Return a module of one system, typed as any: None on the others."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None


fcntl = _module("fcntl")
msvcrt = _module("msvcrt")

SHARERS = 1024
"""Processes that may share a lock on Windows."""
PAUSE = 0.05
"""Seconds between two tries on Windows, where nothing tells that a lock is free."""


def lock(file: IO[Any], *, shared: bool = False, wait: bool = False) -> bool:
    """Lock an open file until it is closed; return whether that was possible.

    Args:
        file: opened for writing, by each of the processes.
        shared: together with others that share it, but with none that does not.
        wait: until others have freed it; else False is returned.
    """
    if fcntl is not None:
        operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(file, operation if wait else operation | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
    while not (locked := _lock_bytes(file.fileno(), shared=shared)) and wait:
        time.sleep(PAUSE)
    return locked


@contextlib.contextmanager
def locked(path: Path, *, shared: bool = False, wait: bool = False) -> Iterator[bool]:
    """Hold the lock of a file, which is created if need be; yield whether it was possible."""
    with path.open("ab") as file:
        yield lock(file, shared=shared, wait=wait)


def _lock_bytes(file: int, *, shared: bool) -> bool:
    """Lock the whole range of a file, or one byte of it that nobody has."""
    for first in range(SHARERS) if shared else (0,):
        os.lseek(file, first, os.SEEK_SET)  # where Windows locks
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1 if shared else SHARERS)
        except OSError:  # whatever it is called: another process has it
            continue
        return True
    return False
