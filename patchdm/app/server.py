"""The studio's server: its page, its API, and who may use them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import TypeAdapter
from starlette.exceptions import HTTPException

from patchdm.app.jobs import Job, Jobs
from patchdm.app.requests import Asked
from patchdm.app.routes import router
from patchdm.app.work import Studio
from patchdm.errors import PatchDMError, one_line

API, OPENAPI = "/api/", "/api/openapi.json"
MOST_ASKED = 2**20
"""Bytes of what a job is asked for by."""
PAGE = Path(__file__).with_name("page")
VIEWERS_RULE = "'sha256-9xTiqzfwFaL2SGb1rmr8gysEwVVjIvqWAgmZgqFqpEE='"
"""Of the one style that OpenSeadragon adds to a page."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; "
    f"style-src 'self' {VIEWERS_RULE}; "
    "img-src 'self' blob: data:; connect-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def studio_app(studio: Studio, *, hosts: frozenset[str], token: str | None) -> FastAPI:
    """Return the application.

    Args:
        studio: the model.
        hosts: names under which it may be asked, as in a Host header without port.
        token: what every request of the API must bring; None: nothing, on loopback.
    """
    app = FastAPI(title="Patch-DM studio", docs_url=None, redoc_url=None, openapi_url=OPENAPI)
    kept: TypeAdapter[Any] = TypeAdapter(Asked)
    app.state.studio = studio
    app.state.finding, app.state.looking = asyncio.Lock(), asyncio.Lock()

    def work(job: Job, jobs: Jobs) -> None:
        studio.perform(kept.validate_python(job.request), job, jobs)

    app.state.jobs = Jobs(studio.folder, work)
    for kind, handler in HANDLERS.items():
        app.add_exception_handler(kind, handler)

    @app.middleware("http")
    async def guard(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        response = refused(request, hosts, token) or await go_on(request)
        response.headers.update(HEADERS)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    app.include_router(router)
    app.get("/", include_in_schema=False)(page)
    app.get("/static/openseadragon.js", include_in_schema=False)(openseadragon)
    app.get("/docs", include_in_schema=False)(docs)
    app.mount("/static", StaticFiles(directory=PAGE))
    return app


def openseadragon() -> FileResponse:
    """Return the library that shows large images."""
    return FileResponse(PAGE.parents[1] / "viewer/openseadragon.min.js")


def page() -> FileResponse:
    """Return the page."""
    return FileResponse(PAGE / "index.html")


def docs() -> FileResponse:
    """Return the page that shows the API's description."""
    return FileResponse(PAGE / "docs.html")


def refused(request: Request, hosts: frozenset[str], token: str | None) -> Response | None:
    """Return why a request is not answered: another host, another site's page, no token."""
    host = urlsplit(f"//{request.headers.get('host', '')}")
    if host.hostname not in hosts:
        return _error(421, "Host: found another than that of the studio")
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != host.netloc:
        return _error(403, "Origin: found another page than the studio's")
    path = request.url.path
    if request.method == "POST" and path == f"{API}jobs":  # which is parsed as a whole
        length = request.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > MOST_ASKED:
            return _error(413, f"request: expected a Content-Length of at most {MOST_ASKED} bytes")
    if token is None or not path.startswith(API):
        return None
    given = request.headers.get("authorization", "").removeprefix("Bearer ")
    given = given or request.query_params.get("token", "")
    if not secrets.compare_digest(given.encode(), token.encode()):
        return _error(401, "token: expected the one that the studio printed")
    return None


def _error(status: int, line: str) -> JSONResponse:
    return JSONResponse({"error": line}, status)


async def _invalid(_: Request, error: Any) -> JSONResponse:
    """Say in one line what does not fit in a request."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"][1:])
    return _error(422, f"{place or 'request'}: {one_line(first['msg'])}")


async def _refused(_: Request, error: Any) -> JSONResponse:
    return _error(error.status_code, str(error.detail))


async def _mistaken(_: Request, error: Exception) -> JSONResponse:
    return _error(429, one_line(error))


HANDLERS: dict[type[Exception], Any] = {
    RequestValidationError: _invalid,
    HTTPException: _refused,
    PatchDMError: _mistaken,
}
