"""`patchdm app`: serve the studio, and open it."""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import IO

import uvicorn

from patchdm.app.photographs import images_of
from patchdm.app.server import studio_app
from patchdm.app.training import run_folder
from patchdm.app.work import Studio
from patchdm.cli.restore import restorer
from patchdm.errors import PatchDMError
from patchdm.locks import lock

LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})


def serve(
    model: Path,
    name: str,
    folder: Path,
    *,
    host: str,
    port: int,
    names: list[str],
    browser: bool,
    tell: Callable[[str], None],
    device: str | None = None,
    photographs: Path | None = None,
) -> None:
    """Serve the studio until Ctrl-C.

    Args:
        model, device: as in `load_pipeline`.
        name: of the model, for commands that the page shows.
        folder: of what is made.
        host, port: address; another than a loopback's needs a token, which is printed.
        names: under which it may be asked for besides.
        browser: open the page.
        photographs: those that it learnt from, a folder or archive; None: as its run has them.
        tell: called with a line that has the page's address.

    Raises:
        PatchDMError: the address or the folder is in use, or the model is not readable.
    """
    listening = _listening(host, port)
    alone = _alone(folder)
    token = None if _is_loopback(host) else secrets.token_urlsafe(24)
    loaded = restorer(model, device, None)
    images = images_of(model, loaded.pipe, photographs)
    studio = Studio(loaded, name, folder, images, run_folder(model))
    hosts = LOCAL | {host} | frozenset(names)
    app = studio_app(studio, hosts=hosts, token=token)
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{listening.getsockname()[1]}/{f'#token={token}' if token else ''}"
    tell(f"studio: {url}")
    if browser:
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
    with alone:
        uvicorn.Server(config).run(sockets=[listening])


def _alone(folder: Path) -> IO[str]:
    """Return the lock of a folder, whose jobs another server would do, too."""
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / ".lock").open("w")
    if not lock(file):
        file.close()
        raise PatchDMError(f"--out: {folder}: in use by another studio")
    return file


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket at an address, before seconds go into loading a model."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        # Python adds the address once more, but to errors of names.
        why = (
            error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        )
        raise PatchDMError(f"--host, --port: found {host}:{port}: {why}") from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
