"""The studio on the tiny run that the commands' tests use."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from starlette.testclient import TestClient

from patchdm.app.server import studio_app
from patchdm.app.work import Studio
from patchdm.cli.restore import restorer
from tests.app.browser import Site
from tests.browser import chromium
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


@contextlib.contextmanager
def served(studio: Studio, token: str | None = None) -> Iterator[str]:
    """Serve the studio as the command does; yield its URL."""
    listening = socket.create_server(("127.0.0.1", 0))
    app = studio_app(studio, hosts=frozenset({"127.0.0.1"}), token=token)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    server.should_exit = True
    thread.join(30)


@pytest.fixture
def address(studio: Studio) -> Iterator[str]:
    with served(studio) as url:
        yield url


@pytest.fixture
def site(address: str) -> Iterator[Site]:
    """Return the page in a browser, which must not complain."""
    with chromium() as browser:
        found = Site(address, browser)
        yield found
    assert found.complaints == []
