"""Servers that lie, loop, never end, or send what nobody asked for."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from patchdm.fetch import arrival, transfer
from patchdm.fetch.sources import table
from tests.fetch import server
from tests.fetch.hostile.cases import left_out, refused
from tests.fetch.packs import zip_of
from tests.fetch.server import Site
from tests.photographs import jpegs

GOOD = jpegs(3)
PHOTO = GOOD["scene0.jpg"]
OK = b"HTTP/1.1 200 OK\r\n"

pytestmark = pytest.mark.usefixtures("no_pauses")


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up soon."""
    monkeypatch.setattr(table, "MAX_BYTES", 2**20)
    monkeypatch.setattr(arrival, "MAX_BYTES", 2**20)
    monkeypatch.setattr(transfer, "RETRY", transfer.RETRY.new(total=3, connect=2))
    monkeypatch.setattr(transfer, "_TIMEOUT", (2, 0.2))
    monkeypatch.setattr(transfer, "_SLOW_AFTER", 0.2)


FAULTS: dict[str, server.Fault] = {
    "page": server.other(b"<html>Sorry</html>", Content_Type="image/jpeg"),
    "empty": server.other(b""),
    "gif": server.other(b"GIF89a" + bytes(100)),
    "half": server.other(PHOTO[: len(PHOTO) // 2]),
    "gzip": server.wrong(Content_Encoding="gzip"),
    "brotli": server.wrong(Content_Encoding="br"),
    **{str(code): server.status(code) for code in (
        201, 204, 300, 304, 400, 401, 402, 403, 404, 405, 407, 409, 410, 411, 413, 414, 415, 418,
        421, 422, 426, 431, 451, 500, 501, 502, 503, 504, 505, 507, 508, 511, 520, 599, 600, 999,
    )},
    "to a file": server.redirect("file:///etc/passwd"),
    "to ftp": server.redirect("ftp://127.0.0.1/evil.jpg"),
    "to gopher": server.redirect("gopher://127.0.0.1:9/evil"),
    "to data": server.redirect("data:image/png;base64,AAAA"),
    "to script": server.redirect("javascript:alert(1)"),
    "to itself": server.redirect("/evil.jpg"),
    "to nobody": server.redirect("http://127.0.0.1:9/evil.jpg"),
    "to nowhere": server.redirect("http://"),
    "to no host": server.redirect("http://[::1/evil.jpg"),
    "to no port": server.redirect("http://127.0.0.1:99999/evil.jpg"),
    "to no name": server.redirect("http://evil.invalid/evil.jpg"),
    "to spaces": server.redirect("http://a b c/evil.jpg"),
    "to a page": server.redirect("/page.jpg"),
    "to a file by slashes": server.redirect("///etc/passwd"),
    "short": server.lie(0.5),
    "long": server.lie(2),
    "cut": server.cut(0.5),
    "reset": server.reset,
    "reset later": server.cut(0.5, reset=True),
    "hang up": server.hang_up,
    "endless": server.endless(),
    "endless image": server.endless(begin=PHOTO),
    "trickle": server.endless(b"x", pause=0.02),
    "silence": server.endless(b"", pause=0.4, begin=b"x"),
    "negative length": server.raw(OK + b"Content-Length: -5\r\n\r\n<html>"),
    "two lengths": server.raw(OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n<html>"),
    "no number": server.raw(OK + b"Content-Length: many\r\n\r\n<html>"),
    "exabytes": server.raw(OK + b"Content-Length: 999999999999999999\r\n\r\n" + PHOTO),
    "bad chunks": server.raw(OK + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n" + PHOTO),
    "huge chunk": server.raw(OK + b"Transfer-Encoding: chunked\r\n\r\nffffffffffff\r\n" + PHOTO),
    "cut chunk": server.raw(OK + b"Transfer-Encoding: chunked\r\n\r\n40\r\n" + PHOTO[:30]),
    "no http": server.raw(b"220 ready\r\n"),
    "no status": server.raw(b"HTTP/1.1 OK\r\n\r\n"),
    "huge status": server.raw(b"HTTP/1.1 200 " + b"x" * 10**6 + b"\r\n\r\n"),
    "huge header": server.raw(OK + b"X-Evil: " + b"x" * 10**6 + b"\r\n\r\n"),
    "many headers": server.raw(OK + b"X-Evil: 1\r\n" * 10**4 + b"\r\n"),
    "only hints": server.raw(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "a part": server.raw(b"HTTP/1.1 206 OK\r\nContent-Range: bytes 5-9/10\r\n\r\n<html>"),
    "escape codes": server.raw(b"HTTP/1.1 404 \x1b[2Jevil\r\n\r\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_answers(tmp_path: Path, site: Site, name: str) -> None:
    urls = site.add(GOOD | {"evil.jpg": PHOTO})
    site.add({"page.jpg": b"<html>Sorry</html>"})
    site.always["evil.jpg"] = FAULTS[name]
    location = tmp_path / "table.csv"
    pd.DataFrame({"url": urls, "name": [*GOOD, "zevil.jpg"]}).to_csv(location, index=False)
    reason = left_out(tmp_path, "table", location, GOOD, transfers=2)
    assert reason.startswith(f"{site.url}/evil.jpg: ")
    assert len(reason) < 300


URLS = [
    "", " ", "evil", "//evil", "/etc/passwd", "file:///etc/passwd", "ftp://127.0.0.1/evil.jpg",
    "http://", "http:///evil.jpg", "http://[", "http://[::1", "http://127.0.0.1:0/evil.jpg",
    "http://127.0.0.1:99999/evil.jpg", "http://127.0.0.1:-1/evil.jpg", "http://a:b:c/evil.jpg",
    "http://evil.invalid/evil.jpg", "http://" + "e" * 300 + "/evil.jpg", "http://.evil/",
    "http://\x00evil/", "http://evil..invalid/a.jpg", "s3://bucket/evil.jpg", "data:,evil",
    "HTTP://127.0.0.1:9/evil.jpg", "http://user:word@127.0.0.1:9/evil.jpg", "javascript:evil",
    "http://xn--/evil.jpg", "http://127.0.0.1:9/" + "e" * 3000,
]  # fmt: skip


@pytest.mark.parametrize("url", URLS, ids=range(len(URLS)))
def test_addresses(tmp_path: Path, site: Site, url: str) -> None:
    location = tmp_path / "table.parquet"
    rows = {"url": [*site.add(GOOD), url], "name": [*GOOD, "zevil.jpg"]}
    pd.DataFrame(rows).to_parquet(location)
    left_out(tmp_path, "table", location, GOOD)


ARCHIVE_FAULTS = [
    "page", "empty", "gzip", "404", "500", "503", "204", "to a file", "to itself", "to nobody",
    "short", "cut", "reset", "hang up", "no http", "bad chunks", "huge chunk", "exabytes",
    "trickle", "long", "huge header", "a part",
]  # fmt: skip


@pytest.mark.parametrize("source", ["archive", "lsun"])
@pytest.mark.parametrize("name", ARCHIVE_FAULTS)
def test_archives_from_such_servers(tmp_path: Path, site: Site, name: str, source: str) -> None:
    (url,) = site.add({"evil.zip": zip_of(GOOD)})
    site.always["evil.zip"] = FAULTS[name]
    assert "evil.zip: " in refused(tmp_path, source, url)


@pytest.mark.parametrize("name", ["404", "500", "page", "hang up", "to a file", "cut", "no http"])
def test_hubs_like_that(tmp_path: Path, site: Site, name: str) -> None:
    site.sometimes = lambda _path: FAULTS[name]
    line = refused(tmp_path, "hub", "someone/evil", endpoint=site.url)
    assert line.startswith("someone/evil: cannot be listed: ")
