"""A web server on this host that knows Range and If-Range, and misbehaves when told to."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import random
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Fault = Callable[["Handler", bytes], None]
"""Answers a request for a file's content in a wrong way."""

MODIFIED = "Sat, 01 Aug 2026 12:00:00 GMT"


@dataclass
class Site:
    """What the server has, what it does wrong, and what it was asked."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    next: dict[str, list[Fault | None]] = field(default_factory=dict)
    """The faults of the next requests for a path; None: none."""
    always: dict[str, Fault] = field(default_factory=dict)
    """What happens at every request for a path."""
    sometimes: Callable[[str], Fault | None] = lambda _path: None
    """What happens at any other request."""
    behind: str | None = None
    """The server that this one stands before."""
    posted: Callable[[Handler, str, bytes], None] | None = None
    """Answers POST and PUT, given the path and the content."""
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and Range of each request, in order."""

    def add(self, files: dict[str, bytes]) -> list[str]:
        """Serve files; return their URLs."""
        self.files |= files
        return [f"{self.url}/{name}" for name in files]

    def fault(self, path: str) -> Fault | None:
        """Return what goes wrong now."""
        if queue := self.next.get(path):
            return queue.pop(0)
        return self.always.get(path) or self.sometimes(path)


class Handler(BaseHTTPRequestHandler):
    """Answers GET as RFC 9110 says, unless there is a fault."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    site: Site

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        path = self.path.lstrip("/")
        self.site.asked.append((path, self.headers.get("Range")))
        content = self.site.files.get(path)
        if fault := self.site.fault(path):
            fault(self, content or b"")
        else:
            self.right(content)

    do_HEAD = do_GET  # noqa: N815 - the library's name

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.site.posted:
            self.site.posted(self, self.path.lstrip("/"), body)
        else:
            self.send_error(405)

    do_PUT = do_POST  # noqa: N815

    def right(self, content: bytes | None) -> None:
        """Answer as one should."""
        if self.site.behind:
            self.relay(self.site.behind)
        elif content is None:
            self.send_error(404)
        else:
            of_hub = re.search(r"/resolve/([0-9a-f]{40})/", self.path)
            self.answer(content, X_Repo_Commit=of_hub and of_hub[1])

    def relay(self, behind: str) -> None:
        """Answer what the server behind this one does; signatures hold for the same Host."""
        connection = http.client.HTTPConnection(behind.removeprefix("http://"), timeout=30)
        with contextlib.closing(connection):
            connection.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            body = answer.read()
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection"):
                    self.send_header(name, value)
            if not answer.getheader("Content-Length"):
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def recorded(self, content: bytes) -> bytes:
        """Return the bytes of the right answer instead of sending them."""
        file, self.wfile = self.wfile, _Recorder()
        self.right(content)
        answer, self.wfile = self.wfile.content, file
        return answer

    def answer(self, content: bytes, etag: str | None = None, **changed: str | None) -> None:
        """Send a file or the part that was asked for; change or leave out (None) headers."""
        etag = etag or f'"{hashlib.md5(content).hexdigest()}"'
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        current = self.headers.get("If-Range", etag) in (etag, MODIFIED)
        start = int(found[1]) if found and current else None
        if start is not None and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = content[start:] if start is not None else content
        headers = {"ETag": etag, "Last-Modified": MODIFIED, "Content-Length": str(len(body))}
        if start is not None:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        changes = {name.replace("_", "-"): value for name, value in changed.items()}
        self.send_response(200 if start is None else 206)
        for name, value in (headers | changes).items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def hang_up(self, *, reset: bool = False) -> None:
        """Close the connection, politely or with a reset."""
        self.close_connection = True
        if reset:
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        with contextlib.suppress(OSError):
            self.wfile.flush()
            if not reset:
                self.connection.shutdown(socket.SHUT_RDWR)
            self.connection.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """Say nothing about clients that hang up."""


@contextlib.contextmanager
def serve() -> Iterator[Site]:
    """Start a server with nothing on it."""
    handler = type("SiteHandler", (Handler,), {})
    with _Server(("127.0.0.1", 0), handler) as server:
        handler.site = Site(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield handler.site
        server.shutdown()


def status(code: int, **headers: str) -> Fault:
    """Answer with an error."""

    def fault(handler: Handler, _content: bytes) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "4")
        handler.end_headers()
        handler.wfile.write(b"oops")

    return fault


def redirect(target: str) -> Fault:
    """Send the client elsewhere."""
    return status(302, Location=target)


def cut(share: float, *, reset: bool = False) -> Fault:
    """Break off after a share of what is left to send, of what a right answer would be."""

    def fault(handler: Handler, content: bytes) -> None:
        head, mark, body = handler.recorded(content).partition(b"\r\n\r\n")
        with contextlib.suppress(OSError):
            handler.wfile.write(head + mark + body[: int(share * len(body))])
            handler.wfile.flush()
            if reset:
                time.sleep(0.01)  # else the reset overtakes the bytes
        handler.hang_up(reset=reset)

    return fault


class _Recorder:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.content = b""

    def write(self, content: bytes) -> None:
        self.content += content

    def flush(self) -> None:
        """Do nothing."""


def reset(handler: Handler, _content: bytes) -> None:
    """Reset the connection instead of an answer."""
    handler.hang_up(reset=True)


def hang_up(handler: Handler, _content: bytes) -> None:
    """Close the connection instead of an answer."""
    handler.hang_up()


def raw(answer: bytes) -> Fault:
    """Send some bytes and close the connection."""

    def fault(handler: Handler, _content: bytes) -> None:
        with contextlib.suppress(OSError):
            handler.wfile.write(answer)
        handler.hang_up()

    return fault


def other(content: bytes, **headers: str | None) -> Fault:
    """Send another content as if it were the file."""
    return lambda handler, _content: handler.answer(content, **headers)


def wrong(etag: str | None = None, **headers: str | None) -> Fault:
    """Send the right content under wrong headers; None: without that header."""

    def fault(handler: Handler, content: bytes) -> None:
        handler.answer(content, etag, **headers)
        handler.close_connection = True

    return fault


def lie(share: float) -> Fault:
    """Announce a share of the length there is, send all, and close the connection."""

    def fault(handler: Handler, content: bytes) -> None:
        answer = handler.recorded(content)
        length = re.compile(rb"(Content-Length: )(\d+)", re.IGNORECASE)
        claim = length.sub(lambda m: m[1] + str(int(share * int(m[2]))).encode(), answer, count=1)
        with contextlib.suppress(OSError):
            handler.wfile.write(claim)
        handler.hang_up()

    return fault


def whole(handler: Handler, content: bytes) -> None:
    """Send all with status 200, whatever range was asked for."""
    del handler.headers["Range"]
    handler.answer(content)


def endless(piece: bytes = bytes(2**16), pause: float = 0, begin: bytes = b"") -> Fault:
    """Send pieces for ever."""

    def fault(handler: Handler, _content: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        with contextlib.suppress(OSError):
            handler.wfile.write(begin)
            while True:
                handler.wfile.write(piece)
                time.sleep(pause)
        handler.close_connection = True

    return fault


def at_random(share: float, faults: list[Fault], seed: int = 0) -> Callable[[str], Fault | None]:
    """Return for Site.sometimes: one of some faults at a share of the requests."""
    dice, lock = random.Random(seed), threading.Lock()

    def choose(_path: str) -> Fault | None:
        with lock:
            return dice.choice(faults) if dice.random() < share else None

    return choose
