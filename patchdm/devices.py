"""The default device, and torch's threads on a CPU that other programs use too."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


def default_device() -> str:
    """Return the name of the default device: "cuda" if available, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute on so many threads within."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def one_thread(*, small: bool = True) -> contextlib.AbstractContextManager[None]:
    """Compute on one thread within, if the operations are small.

    Several threads wait for each other at every operation. With short operations they gain little,
    and all wait for a thread that another program keeps off its core: next to two busy processes
    the demo's latent training ran at a hundredth of its speed.
    """
    return threads(1 if small else torch.get_num_threads())
