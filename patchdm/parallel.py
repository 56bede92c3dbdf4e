"""Apply a function to many items in several processes; results keep the items' order."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.queues import SimpleQueue
from typing import Any, TypeVar

from patchdm.errors import PatchDMError
from patchdm.memory import keep_freed_memory

AHEAD = 3
"""Items per process that may be in work, or done and not yet consumed."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_order(
    function: Callable[[_Item], _Result], items: Iterable[_Item], workers: int
) -> Iterator[_Result]:
    """Yield `function(item)` for every item, in `machine.workers` processes: see `shared`."""
    with shared(function, workers, knob="machine.workers") as mapped:
        yield from mapped(items)


@contextlib.contextmanager
def shared(
    function: Callable[[_Item], _Result], workers: int, *, knob: str
) -> Iterator[Callable[[Iterable[_Item]], Iterator[_Result]]]:
    """Yield the function that maps items to `function(item)`, in their order.

    The processes start with the first item, serve several calls and die with this process, however
    it ends. A single worker is this process.

    Args:
        function: importable by name, or a partial of such a function, sent once to each process.
            At most `AHEAD * workers` items are read before their results are consumed.
        workers: number of processes.
        knob: the key that sets their number, for the error.

    Raises:
        PatchDMError: a worker was killed.
    """
    if workers == 1:
        yield lambda items: map(function, items)
        return
    context = own_processes(getattr(function, "func", function).__module__)
    numbers = context.SimpleQueue()
    for number in range(workers):
        numbers.put(number)
    pool = ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start, initargs=(function, numbers)
    )

    def mapped(items: Iterable[_Item]) -> Iterator[_Result]:
        waiting: deque[Future[_Result]] = deque()
        for item in items:
            waiting.append(pool.submit(_apply, item))
            if len(waiting) == AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    try:
        yield mapped
    except BrokenProcessPool:
        raise PatchDMError(
            f"{knob}: found one of {workers} processes killed, probably out of memory: use fewer; "
            "the same command continues where it stopped"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def own_processes(module: str) -> Any:
    """Return a way to start processes, which will need a module.

    Not fork: this process has threads, of torch and others. On Linux a fork server imports the
    module once for all; Windows has none, and macOS's libraries do not bear a fork.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([module])
    return context


_work: tuple[Callable[[Any], Any], int]
"""In a process of `shared`: its function and its number."""


def process_number() -> int:
    """Return the number of a process of `shared`, from 0 on."""
    return _work[1]


def _apply(item: Any) -> Any:
    return _work[0](item)


def _start(function: Callable[[Any], Any], numbers: SimpleQueue[int]) -> None:
    """Leave interrupts to the parent process, end when it does, and keep freed memory."""
    global _work  # noqa: PLW0603 - a process serves one pool
    _work = function, numbers.get()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_freed_memory()
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
