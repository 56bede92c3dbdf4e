"""One Prefect server for all tests of flows, and toy repositories to run them in."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.testing.utilities import prefect_test_harness

from tests.pipelines import toy


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
