"""One Prefect server for all tests of flows, and toy repositories to run them in."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.testing.utilities import prefect_test_harness

from tests.pipelines import toy

# Prefect's threads tell the interpreter to wait for them at its exit. A process that another test
# forks from this one has none of them, would wait for them all the same, and end with status 1.
os.register_at_fork(after_in_child=threading._threading_atexits.clear)


@pytest.fixture(scope="session")
def prefect_api() -> Iterator[None]:
    """Serve Prefect's API on an empty database."""
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="session")
def toy_original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy repository for copying."""
    return toy.make(tmp_path_factory.mktemp("original") / "toy")


@pytest.fixture
def toy_repo(toy_original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a fresh toy repository."""
    repo = Path(shutil.copytree(toy_original, tmp_path / "toy"))
    monkeypatch.chdir(repo)
    for name in ("PATH", "PYTHONPATH", "DVC_NO_ANALYTICS"):
        monkeypatch.setenv(name, toy.environment()[name])
    return repo
