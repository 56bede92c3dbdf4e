"""Downloads go on where they broke off, and no wrong byte is taken for a right one."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from patchdm.errors import PatchDMError
from patchdm.fetch import transfer as module
from patchdm.fetch.transfer import open_session, transfer
from tests.fetch import server
from tests.fetch.server import Site

CONTENT = bytes(range(256)) * 4096  # 1 MiB
NAME = "a.bin"

pytestmark = pytest.mark.usefixtures("no_pauses")


def get(site: Site, path: Path, limit: int | None = None) -> list[int]:
    """Download the file; return what was reported."""
    reported: list[int] = []
    with open_session(1) as session:
        report = lambda done, _total: reported.append(done)  # noqa: E731
        transfer(session, f"{site.url}/{NAME}", path, limit=limit, report=report)
    return reported


@pytest.fixture
def path(site: Site, tmp_path: Path) -> Path:
    site.add({NAME: CONTENT})
    return tmp_path / NAME


def test_a_file_arrives_whole_and_is_reported(site: Site, path: Path) -> None:
    reported = get(site, path)
    assert path.read_bytes() == CONTENT
    assert reported == sorted(reported)
    assert reported[-1] == len(CONTENT)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("reset", [False, True])
def test_a_broken_transfer_goes_on_where_it_stopped(site: Site, path: Path, reset: bool) -> None:
    site.next[NAME] = [server.cut(0.5, reset=reset), server.cut(0.5, reset=reset)]
    get(site, path)
    assert path.read_bytes() == CONTENT
    assert site.asked[0] == (NAME, None)
    starts = [int(asked.removeprefix("bytes=")[:-1]) for _, asked in site.asked[1:] if asked]
    assert len(starts) == 2
    if not reset:  # a reset may overtake the last bytes
        assert starts == [len(CONTENT) // 2, len(CONTENT) * 3 // 4]


def test_another_call_goes_on_too(site: Site, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.always[NAME] = server.cut(0.25)
    with monkeypatch.context() as patch:
        patch.setattr(module, "RETRY", module.RETRY.new(total=0))
        with pytest.raises(PatchDMError, match=r"/a\.bin: broke off again and again: .*Incomplete"):
            get(site, path)
    assert path.stat().st_size == len(CONTENT) // 4
    site.always.clear()
    get(site, path)
    assert path.read_bytes() == CONTENT
    assert site.asked[-1] == (NAME, f"bytes={len(CONTENT) // 4}-")
    assert list(path.parent.iterdir()) == [path]


def test_a_part_of_another_version_is_dropped(site: Site, path: Path) -> None:
    site.next[NAME] = [server.cut(0.5)]
    site.always[NAME] = server.other(CONTENT[::-1])
    get(site, path)
    assert path.read_bytes() == CONTENT[::-1]


def test_a_part_of_unknown_version_is_dropped(site: Site, path: Path) -> None:
    path.write_bytes(b"left by something else")
    get(site, path)
    assert path.read_bytes() == CONTENT
    assert site.asked == [(NAME, None)]

    path.write_bytes(b"damaged note")
    path.with_name(f"{NAME}.json").write_text('{"etag": ')
    get(site, path)
    assert path.read_bytes() == CONTENT

    path.write_bytes(b"no way to tell its version")
    path.with_name(f"{NAME}.json").write_text(json.dumps({"etag": 'W/"1"', "modified": None}))
    get(site, path)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "fault",
    [
        server.whole,
        server.wrong(Content_Range="bytes 0-5/6"),
        server.wrong(Content_Range=None),
        server.wrong(Content_Range="bytes */1048576"),
        server.wrong('"another"'),
        server.status(416),
        server.status(503),
        server.status(429, Retry_After="0"),
        server.reset,
        server.hang_up,
        server.cut(0),
        server.wrong(Content_Length="99999999"),
        server.raw(b""),
        server.raw(b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 524288-"),
    ],
    ids=lambda fault: getattr(fault, "__name__", "raw"),
)
def test_wrong_answers_to_a_range_cost_nothing(site: Site, path: Path, fault: server.Fault) -> None:
    site.next[NAME] = [server.cut(0.5), fault, server.cut(0.5), fault]
    get(site, path)
    assert path.read_bytes() == CONTENT


def test_a_third_of_faulty_requests_costs_nothing(site: Site, path: Path) -> None:
    faults = [
        server.status(500), server.status(503), server.status(429), server.reset, server.hang_up,
        server.cut(0.3), server.cut(0.9, reset=True), server.whole,
    ]  # fmt: skip
    site.sometimes = server.at_random(1 / 3, faults)
    for number in range(40):
        target = path.with_name(f"{number}.bin")
        get(site, target)
        assert target.read_bytes() == CONTENT
    assert len(site.asked) > 50


def test_files_that_always_break_off_are_given_up(site: Site, path: Path) -> None:
    site.always[NAME] = server.wrong(Content_Length=str(len(CONTENT) + 5))
    with pytest.raises(PatchDMError, match=r"/a\.bin: broke off again and again"):
        get(site, path)
    assert len(site.asked) < 30


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 451, 204, 206, 501])
def test_final_answers_are_not_asked_twice(site: Site, path: Path, code: int) -> None:
    site.always[NAME] = server.status(code)
    with pytest.raises(PatchDMError, match=rf"/a\.bin: found HTTP {code}"):
        get(site, path)
    assert len(site.asked) == 1


@pytest.mark.parametrize("code", module.TRANSIENT)
def test_transient_answers_are_asked_again_and_then_named(
    site: Site, path: Path, code: int
) -> None:
    site.always[NAME] = server.status(code)
    with pytest.raises(PatchDMError, match=rf"/a\.bin: found HTTP {code}"):
        get(site, path)
    assert len(site.asked) == 13


def test_the_server_says_how_long_to_wait(
    site: Site, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(module, "RETRY", module.RETRY.new(retry_after_max=300))
    monkeypatch.setattr(time, "sleep", waits.append)
    site.next[NAME] = [server.status(503, Retry_After="7"), server.status(429, Retry_After="9999")]
    get(site, path)
    assert [wait for wait in waits if wait > 1] == [7, 300]


def test_pauses_grow_and_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    retry, waits = module.RETRY, []
    for _ in range(12):
        retry = retry.increment("GET", "/", error=module.ProtocolError("x"))
        waits.append(retry.get_backoff_time())
    assert waits[0] == 0
    assert all(0.5 * 2**n <= wait <= 0.5 * 2**n + 0.5 for n, wait in enumerate(waits[1:7], 1))
    assert waits[-1] == 60
    assert len({wait % 1 for wait in waits}) > 5


def test_nobody_there_is_named_in_a_few_words(site: Site, path: Path) -> None:
    del site
    with (
        open_session(1) as session,
        pytest.raises(PatchDMError, match=r"^http://127\.0\.0\.1:9/a: cannot be reached: Conn"),
    ):
        transfer(session, "http://127.0.0.1:9/a", path, limit=None)


def test_slow_answers_are_broken_off(
    site: Site, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SLOW_AFTER", 0.05)
    monkeypatch.setattr(module, "RETRY", module.RETRY.new(total=2))
    site.always[NAME] = server.endless(b"x", pause=0.02)
    with pytest.raises(PatchDMError, match=r"again and again: found less than 1024 bytes/s"):
        get(site, path)


def test_silence_is_broken_off(site: Site, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TIMEOUT", (1, 0.05))
    monkeypatch.setattr(module, "RETRY", module.RETRY.new(total=2))
    site.always[NAME] = lambda *_: time.sleep(0.3)
    with pytest.raises(PatchDMError, match=r"/a\.bin: cannot be reached: timed out"):
        get(site, path)
    site.always[NAME] = server.endless(b"", pause=0.3, begin=b"x")
    with pytest.raises(PatchDMError, match=r"broke off again and again: timed out"):
        get(site, path)


def test_a_full_disk_is_no_fault_of_the_server(
    site: Site, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_forget", lambda _path: None)
    path.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        get(site, path)
    assert len(site.asked) == 1


def test_memory_does_not_grow_with_the_file(site: Site, path: Path) -> None:
    site.files[NAME] = bytes(64 * 2**20)
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from patchdm.fetch.transfer import open_session, transfer\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "with open_session(1) as session:\n"
        "    transfer(session, sys.argv[1], Path(sys.argv[2]), limit=None)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    command = [sys.executable, "-c", program, f"{site.url}/{NAME}", str(path)]
    grown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert path.stat().st_size == 64 * 2**20
    assert int(grown) < 16 * 2**10  # KiB
