"""A Prefect API server that lives as long as one flow, for `python -m pipelines.NAME`.

Without a configured server Prefect starts its own, which outlives a killed flow.
"""

from __future__ import annotations

import atexit
import contextlib
import socket
import subprocess
import sys
import tempfile
import time

import httpx
from prefect.client.orchestration import get_client
from prefect.settings import (
    PREFECT_API_REQUEST_TIMEOUT,
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_HOME,
    temporary_settings,
)

from pipelines import process
from pipelines.errors import FlowError, reason

START_SECONDS = 120
"""A new database takes 10 to 30."""

ANSWER_SECONDS = 10
"""Time limit for an answer of a configured server."""


def start_api() -> None:
    """Serve the API on a free port until this process ends, unless a server is configured."""
    if url := PREFECT_API_URL.value():
        check_api(url)
        return
    home = PREFECT_HOME.value()
    try:
        home.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=home).close()
    except OSError as error:
        raise FlowError(
            f"PREFECT_HOME is {home}, expected a folder for Prefect's database: {error.strerror}"
        ) from None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    command = process.supervised(["pipelines.api", str(port)])
    # At exit, since Prefect sends the last logs and states when its threads are joined.
    at_exit = contextlib.ExitStack()
    atexit.register(at_exit.close)
    server = at_exit.enter_context(subprocess.Popen(command, process_group=0))  # noqa: S603 - ours
    at_exit.callback(server.terminate)
    _wait(server, url)
    at_exit.enter_context(temporary_settings({PREFECT_API_URL: url}))


def check_api(url: str) -> None:
    """Raise a FlowError if a Prefect server does not answer or denies access."""
    patience = {PREFECT_API_REQUEST_TIMEOUT: ANSWER_SECONDS, PREFECT_CLIENT_MAX_RETRIES: 0}
    try:
        with temporary_settings(patience), get_client(sync_client=True) as client:
            client.read_flows(limit=1)
    except Exception as error:  # noqa: BLE001 - of httpx, pydantic or Prefect
        raise FlowError(
            f"PREFECT_API_URL is {url}, expected the URL of a running Prefect server such as "
            f"http://127.0.0.1:4200/api, or none: {reason(error)}"
        ) from None


def _wait(server: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/health").is_success:
                return
        time.sleep(0.1)
    raise FlowError("Prefect's API server does not start, its own message stands above")


if __name__ == "__main__":
    import uvicorn
    from prefect.server.api.server import create_app  # seconds, which the flow need not spend

    app = create_app(ephemeral=True, final=True)
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error")
