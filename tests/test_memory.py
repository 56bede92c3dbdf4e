"""Freed memory stays with the process, unless its user says otherwise."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from patchdm.memory import total_memory
from tests.conftest import REPO

PAGES = """
import ctypes, resource
import numpy as np
from patchdm.memory import keep_freed_memory
keep_freed_memory()
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: pages of one size, to be counted
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(2**23)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
first = faults()
print(first, faults())
"""


def pages_of_a_block(**environment: str) -> tuple[int, int]:
    """Return how many pages a process gets for 64 MB, and for 64 MB after it has freed them."""
    found = subprocess.run(
        [sys.executable, "-c", PAGES],
        cwd=REPO,
        env={k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    first, second = map(int, found.stdout.split())
    return first, second


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to")
def test_freed_memory_is_used_again():
    first, second = pages_of_a_block()
    assert second < first / 10


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to")
@pytest.mark.parametrize(
    ("name", "value"),
    [("MALLOC_TRIM_THRESHOLD_", "131072"), ("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=65536")],
)
def test_the_users_allocator_stays_as_it_is(name: str, value: str):
    first, second = pages_of_a_block(**{name: value})
    assert second > first / 2


def test_the_machine_says_how_much_it_has(monkeypatch: pytest.MonkeyPatch):
    assert 1e8 < (total_memory() or 0) < 1e14
    monkeypatch.delattr(os, "sysconf")  # as on Windows
    assert total_memory() is None
