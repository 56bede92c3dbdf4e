"""Download files by HTTP: resume after an interruption, try again with growing pauses."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, MaxRetryError, ProtocolError, ReadTimeoutError
from urllib3.response import BaseHTTPResponse
from urllib3.util import Retry

from patchdm.errors import PatchDMError, one_line
from patchdm.files import replacing

TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
"""HTTP statuses after which a request is repeated."""
RETRY = Retry(
    total=12,  # of requests that fail 30 times in 100, one in six millions fails so often
    connect=6,
    status_forcelist=TRANSIENT,
    raise_on_status=False,
    backoff_factor=0.5,
    backoff_jitter=0.5,
    backoff_max=60,
    retry_after_max=300,
)
Report = Callable[[int, int | None], None]
"""Is called with the bytes that have arrived and the total, if known."""

_PIECE = 2**18
_TIMEOUT = (10, 60)
"""Seconds to connect, and between two pieces."""
_SLOW_AFTER, _SLOW = 60, 1024
"""A transfer of more than so many seconds has at least so many bytes per second."""


class _BrokenOffError(Exception):
    """The transfer broke off, and may succeed when tried again."""


class _Validators(NamedTuple):
    """The version of a file that a server names; kept next to the part that has arrived."""

    etag: str | None
    modified: str | None

    @property
    def condition(self) -> str | None:
        """The If-Range header that asks for the rest of exactly this version."""
        strong = self.etag and not self.etag.startswith("W/")
        return self.etag if strong else self.modified


def open_session(connections: int) -> requests.Session:
    """Return a session for several threads that keeps so many connections open per host."""
    session = requests.Session()
    session.headers.update({"User-Agent": "patchdm", "Accept-Encoding": "identity"})
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=connections, max_retries=RETRY))
    return session


def unseen(_done: int, _total: int | None) -> None:
    """Report nothing."""


def transfer(
    session: requests.Session, url: str, path: Path, *, limit: int | None, report: Report = unseen
) -> None:
    """Download a file to `path`, starting from the part that an earlier call left there.

    The part is used only if the server confirms (If-Range) that its version is the same. The call
    fails after `RETRY.total` failures in a row without a new byte.

    Args:
        path: the file; `<path>.json` keeps the version until the file is complete.
        limit: largest number of bytes that is accepted; None: any.

    Raises:
        PatchDMError: it cannot be downloaded; the line names the URL and the cause.
        OSError: it cannot be written.
    """
    retry, most = RETRY, _size(path)
    while True:
        try:
            _go_on(session, url, path, limit, report)
        except _BrokenOffError as error:
            if _size(path) > most:
                retry, most = RETRY, _size(path)
            try:
                retry = retry.increment("GET", url, error=ProtocolError(str(error)))
            except (MaxRetryError, ProtocolError):
                raise PatchDMError(f"{url}: broke off again and again: {error}") from None
            retry.sleep()
        else:
            _version(path).unlink(missing_ok=True)
            return


def _go_on(
    session: requests.Session, url: str, path: Path, limit: int | None, report: Report
) -> None:
    """Request the missing bytes once and write them."""
    known = _read_version(path)
    start = _size(path) if known else 0
    rest = {"Range": f"bytes={start}-", "If-Range": known.condition or ""} if known else {}
    with _answer(session, url, rest if start else {}) as response:
        if response.status_code == 206 and start:
            length = _check_range(response, path, start, known)
        elif response.status_code == 416 and start:
            _forget(path)
            raise _BrokenOffError("found HTTP 416, its length has changed")
        elif response.status_code == 200:
            start, length = 0, response.raw.length_remaining
        else:
            raise PatchDMError(f"{url}: found HTTP {response.status_code} {response.reason}")
        if coding := response.headers.get("Content-Encoding", "").replace("identity", ""):
            raise PatchDMError(f"{url}: found Content-Encoding {coding!r}, expected none")
        total = None if length is None else start + length
        _check_size(url, total or 0, limit)
        if not start:
            _forget(path)
            version = _Validators(*map(response.headers.get, ("ETag", "Last-Modified")))
            with replacing(_version(path)) as fresh:
                fresh.write_text(json.dumps(version._asdict()))
        with path.open("ab" if start else "wb") as file:
            began = time.monotonic()
            for piece in _pieces(response.raw):
                file.write(piece)
                _check_size(url, file.tell(), limit)
                report(file.tell(), total)
                seconds = time.monotonic() - began
                if seconds > _SLOW_AFTER and file.tell() - start < seconds * _SLOW:
                    raise _BrokenOffError(f"found less than {_SLOW} bytes/s")


@contextmanager
def _answer(
    session: requests.Session, url: str, headers: Mapping[str, str]
) -> Iterator[requests.Response]:
    """Yield the response to a request; its body is not read yet."""
    try:
        response = session.get(url, headers=dict(headers), stream=True, timeout=_TIMEOUT)
    except requests.exceptions.InvalidSchema as error:
        scheme = re.search(r"'(\w+):", str(error))
        found = f"{scheme[1]}:" if scheme else "another scheme"
        raise PatchDMError(f"{url}: leads to {found}, expected http and https") from None
    except requests.exceptions.TooManyRedirects:
        raise PatchDMError(f"{url}: redirects without end") from None
    except (requests.exceptions.RequestException, HTTPError, ValueError) as error:
        # ValueError: a malformed URL, here or in a redirect
        raise PatchDMError(f"{url}: cannot be reached: {_cause(error)}") from None
    with response:
        yield response


def _pieces(raw: BaseHTTPResponse) -> Iterator[bytes]:
    """Yield the body as it arrives; `read1` does not wait for a whole piece."""
    try:
        while piece := raw.read1(_PIECE, decode_content=False):
            yield piece
    except (HTTPError, OSError) as error:
        raise _BrokenOffError(_cause(error)) from None


def _check_range(
    response: requests.Response, path: Path, start: int, known: _Validators | None
) -> int:
    """Return how many bytes follow; refuse a piece that does not continue the part."""
    found = response.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", found)
    etag = response.headers.get("ETag")
    if not match or int(match[1]) != start or int(match[2]) + 1 != int(match[3]):
        _forget(path)
        raise _BrokenOffError(f"asked for bytes {start}-, found {found!r}")
    if known and etag and known.etag and etag != known.etag:
        _forget(path)
        raise _BrokenOffError(f"found version {etag}, began with {known.etag}")
    return int(match[3]) - start


def _check_size(url: str, size: int, limit: int | None) -> None:
    if limit is not None and size > limit:
        raise PatchDMError(f"{url}: found more than {limit} bytes, the limit")


def _cause(error: BaseException) -> str:
    """Return the root cause of a connection's error in a few words, the same every time."""
    while True:
        if isinstance(error, OSError) and error.strerror:
            return error.strerror
        inner = getattr(error, "reason", None) or error.__cause__ or error.__context__
        inner = inner or next((arg for arg in error.args if isinstance(arg, BaseException)), None)
        if not isinstance(inner, BaseException):
            break
        error = inner
    if isinstance(error, ReadTimeoutError | TimeoutError):
        return "timed out"
    # Some texts contain the memory address of an object.
    return re.sub(r"<[^>]*>:? ?", "", one_line(error)) or type(error).__name__


def _version(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _read_version(path: Path) -> _Validators | None:
    """Return the version of the part of a file; None: it cannot be continued."""
    try:
        known = _Validators(**json.loads(_version(path).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return known if known.condition else None


def _forget(path: Path) -> None:
    """Remove the part of a file, then its version, so that a kill between them is harmless."""
    path.unlink(missing_ok=True)
    _version(path).unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
