"""Results in order, few at once, and clear ends."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from functools import partial

import pytest

from patchdm.errors import PatchDMError
from patchdm.parallel import AHEAD, in_order, process_number


def slowly_first(number: int) -> tuple[int, int]:
    time.sleep(0.2 if number == 0 else 0)
    return number, os.getpid()


def fails_at(limit: int, number: int) -> int:
    if number == limit:
        raise PatchDMError(f"found {number}")
    return number


def dies_at(limit: int, number: int) -> int:
    if number == limit:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_results_come_in_order_from_other_processes() -> None:
    numbers, processes = zip(*in_order(slowly_first, range(40), 2), strict=True)
    assert numbers == tuple(range(40))
    assert os.getpid() not in processes
    assert [pid for _, pid in in_order(slowly_first, range(3), 1)] == [os.getpid()] * 3


@pytest.mark.parametrize("workers", [1, 2])
def test_items_are_taken_as_they_are_needed(workers: int) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    results = in_order(partial(fails_at, -1), items(), workers)
    for number in range(20):
        assert next(results) == number
        assert len(taken) <= number + AHEAD * workers
    results.close()


def numbered(_: int) -> tuple[int, int]:
    time.sleep(0.05)
    return os.getpid(), process_number()


def test_processes_are_numbered() -> None:
    found = set(in_order(numbered, range(40), 3))
    assert len({process for process, _ in found}) == 3
    assert sorted(number for _, number in found) == [0, 1, 2]


class Sent:
    """Says how often it was sent to a process."""

    def __init__(self, times: int = 0) -> None:
        self.times = times

    def __reduce__(self) -> tuple[type, tuple[int]]:
        self.times += 1
        return Sent, (self.times,)


def test_a_function_is_sent_once_to_each_process() -> None:
    """It may hold a network."""
    sent = Sent()
    list(in_order(partial(times_of, sent), range(20), 2))
    assert sent.times <= 2


def times_of(sent: Sent, _: int) -> int:
    return sent.times


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_an_item_is_the_callers(workers: int) -> None:
    results = in_order(partial(fails_at, 3), range(9), workers)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(PatchDMError, match="found 3"):
        next(results)


def test_a_killed_worker_is_one_line() -> None:
    message = "machine.workers: found one of 2 processes killed, probably out of memory: use fewer;"
    with pytest.raises(PatchDMError, match=message):
        list(in_order(partial(dies_at, 5), range(20), 2))
