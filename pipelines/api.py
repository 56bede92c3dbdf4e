"""A Prefect API server that lives as long as one flow, for `python -m pipelines.NAME`.

Prefect starts one by itself where none is configured, but that one outlives a killed flow.
"""

from __future__ import annotations

import atexit
import contextlib
import socket
import subprocess
import sys
import time

import httpx
from prefect.settings import PREFECT_API_URL, temporary_settings

from pipelines import process
from pipelines.errors import FlowError

START_SECONDS = 120
"""A fresh database takes 10 to 30."""


def start_api() -> None:
    """Serve the API on a free port until this process ends; unless Prefect is told of another.

    Raises:
        FlowError: the server does not start.
    """
    if PREFECT_API_URL.value():
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    command = process.supervised(["pipelines.api", str(port)])
    # At exit, because Prefect sends the last logs and states when its threads are joined.
    at_exit = contextlib.ExitStack()
    atexit.register(at_exit.close)
    server = at_exit.enter_context(subprocess.Popen(command, process_group=0))  # noqa: S603 - ours
    at_exit.callback(server.terminate)
    _wait(server, url)
    at_exit.enter_context(temporary_settings({PREFECT_API_URL: url}))


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
