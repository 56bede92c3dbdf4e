"""The studio on the tiny run that the commands' tests use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from patchdm.app.server import studio_app
from patchdm.app.work import Studio
from patchdm.cli.restore import restorer
from tests.cli import conftest as commands

MODEL = Path("run/data/models")
HOSTS = frozenset({"testserver"})
folders, work = commands.folders, commands.work


@pytest.fixture
def studio(work: Path) -> Studio:  # noqa: ARG001 - the folder that it works in
    """Return the studio of a run, whose folder is new."""
    return Studio(restorer(MODEL, "cpu", None), "run", Path("studio"))


@pytest.fixture
def client(studio: Studio) -> Iterator[TestClient]:
    """Return a client of its server."""
    with TestClient(studio_app(studio, hosts=HOSTS, token=None)) as found:
        yield found
