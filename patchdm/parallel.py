"""A function over many items in processes, with the results in order and few of them at once."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from patchdm.errors import PatchDMError

AHEAD = 3
"""Items a process that are at work or done and not asked for yet."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_order(
    function: Callable[[_Item], _Result], items: Iterable[_Item], workers: int
) -> Iterator[_Result]:
    """Yield `function(item)` for every item: see `shared`, of which `machine.workers` processes."""
    with shared(function, workers, knob="machine.workers") as mapped:
        yield from mapped(items)


@contextlib.contextmanager
def shared(
    function: Callable[[_Item], _Result], workers: int, *, knob: str
) -> Iterator[Callable[[Iterable[_Item]], Iterator[_Result]]]:
    """Yield what maps items to `function(item)`, in their order, in processes that stay.

    The processes start with the first item and die with this one, however it ends. A single worker
    is this process.

    Args:
        function: importable by name, or a partial of such a one. Items are read as they are
            needed, at most `AHEAD * workers` before their result is asked for.
        workers: number of processes.
        knob: what sets their number, for the error.

    Raises:
        PatchDMError: a worker was killed.
    """
    if workers == 1:
        yield lambda items: map(function, items)
        return
    # Not fork: this process has threads, torch's and others. The server imports once for all.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([getattr(function, "func", function).__module__])
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_die_with_parent)

    def mapped(items: Iterable[_Item]) -> Iterator[_Result]:
        waiting: deque[Future[_Result]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) == AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    try:
        yield mapped
    except BrokenProcessPool:
        raise PatchDMError(
            f"{knob}: found one of {workers} processes killed, perhaps for want of memory, "
            "which fewer need less of; the same command goes on where it stopped"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _die_with_parent() -> None:
    """Leave interrupts to the process that asked for us, and end when it does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
