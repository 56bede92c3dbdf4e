"""A download that is killed goes on where it was, and leaves no process behind (slow)."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from ruamel.yaml import YAML

from patchdm.fetch.arrival import PIECE
from tests.conftest import REPO
from tests.fetch import server
from tests.fetch.packs import lsun_zip, tar_of
from tests.fetch.server import Site
from tests.photographs import contents, encoded, jpegs, photograph

pytestmark = pytest.mark.slow
STAGE = [sys.executable, "-m", "stages.download"]
FAULTS = [
    server.status(500), server.status(503), server.status(429), server.reset, server.hang_up,
    server.cut(0.3), server.cut(0.9, reset=True), server.lie(0.5), server.lie(2), server.whole,
    server.other(b"<html>Too many visitors</html>"), server.raw(b"HTTP/1.1 200 OK\r\n\r\n"),
]  # fmt: skip


def repository(folder: Path, transfers: int = 4, **data: object) -> Path:
    """Write a params.yaml with other values of section data; return its folder."""
    folder.mkdir()
    yaml = YAML(typ="safe", pure=True)
    values = yaml.load(REPO / "presets/smoke.yaml")
    values["data"] |= data
    values["machine"]["transfers"] = transfers
    yaml.dump(values, folder / "params.yaml")
    shutil.copy(REPO / "dvc.yaml", folder)  # which says what the stage writes
    for name in ("stages", "patchdm"):  # whose files the state's key hashes
        shutil.copytree(REPO / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def run(folder: Path) -> dict[str, bytes]:
    """Run the stage to its end; return what it wrote."""
    subprocess.run(STAGE, cwd=folder, check=True, capture_output=True)
    left = {path.name for path in (folder / ".state").rglob("*") if path.is_file()}
    # data-raw.json lists what is the stage's own.
    assert left == {"lock", "data-raw.json", "times.csv"}
    return contents(folder / "data/raw")


def kill_often(folder: Path, site: Site, kills: int, kill: int) -> None:
    """Start the stage and end it at random moments while it transfers."""
    dice = random.Random(kills)
    for _ in range(kills):
        enough = len(site.asked) + dice.randrange(6, 16)
        process = subprocess.Popen(STAGE, cwd=folder, stderr=subprocess.DEVNULL)
        family = psutil.Process(process.pid)
        while len(site.asked) < enough and process.poll() is None:
            time.sleep(0.005)
        children = family.children(recursive=True) if process.poll() is None else []
        os.kill(process.pid, kill)
        assert process.wait(timeout=60) != 0
        psutil.wait_procs(children, timeout=60)
        assert not [child for child in children if child.is_running()]
        assert not (folder / "data/raw").exists()


def table(folder: Path, site: Site) -> dict[str, object]:
    """Describe 150 photographs on the server by a table."""
    scenes = list(jpegs(30).values())
    files = {f"{n}.jpg": scenes[n % 30] + f"{n}".encode() for n in range(150)}
    rows = [f"{url},{hashlib.sha256(files[url.rpartition('/')[2]]).hexdigest()}\n"
            for url in site.add(files)]  # fmt: skip
    (folder / "table.csv").write_text("url,sha256\n" + "".join(rows))
    return {"source": "table", "location": str(folder / "table.csv")}


def archive(_folder: Path, site: Site) -> dict[str, object]:
    """Put a large archive on the server."""
    content = tar_of({f"{n}.png": encoded(photograph(n, 512, 256), "PNG") for n in range(40)})
    (url,) = site.add({"mine.tar": content})
    return {"source": "archive", "location": url, "pin": hashlib.sha256(content).hexdigest()}


def lsun(folder: Path, site: Site) -> dict[str, object]:
    """Put an LMDB on the server."""
    scenes = jpegs(30)
    entries = {f"{n:040x}".encode(): list(scenes.values())[n % 30] for n in range(2000)}
    (url,) = site.add({"church_lmdb.zip": lsun_zip(folder, entries, "church_lmdb").read_bytes()})
    return {"source": "lsun", "location": url}


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("source", [table, archive, lsun])
def test_killed_downloads_end_with_the_same_bytes(
    tmp_path: Path,
    site: Site,
    source: Callable[[Path, Site], dict[str, object]],
    kill: signal.Signals,
) -> None:
    data = source(tmp_path, site)
    whole = run(repository(tmp_path / "whole", **data))
    folder = repository(tmp_path / "killed", **data)
    site.sometimes = lambda _path: slowly if source is table else bit_by_bit
    kill_often(folder, site, 3, kill)
    site.sometimes = lambda _path: None
    site.asked.clear()
    assert run(folder) == whole
    if source is table:
        assert len(site.asked) < 150  # some were there
    else:
        assert site.asked[0][1]  # the rest was asked for


def slowly(handler: server.Handler, content: bytes) -> None:
    """Answer rightly, after a while."""
    time.sleep(0.05)
    handler.answer(content)


def bit_by_bit(handler: server.Handler, content: bytes) -> None:
    """Break off after a twentieth of what is missing, after a while."""
    time.sleep(0.05)
    server.cut(0.05)(handler, content)


@pytest.mark.parametrize("source", [table, archive, lsun])
def test_a_third_of_faulty_requests_costs_nothing(
    tmp_path: Path, site: Site, source: Callable[[Path, Site], dict[str, object]]
) -> None:
    data = source(tmp_path, site)
    whole = run(repository(tmp_path / "whole", transfers=8, **data))
    site.asked.clear()
    faults = FAULTS if source is table else FAULTS[:6]  # without a hash, a page is an archive
    site.sometimes = server.at_random(0.3, faults)
    assert run(repository(tmp_path / "faulty", transfers=8, **data)) == whole
    if source is table:
        assert len(site.asked) > 190


def test_a_gigabyte_in_little_memory(tmp_path: Path, site: Site) -> None:
    """Download and unpack 1 GiB; the stage's imports alone need over 300 MiB."""
    photo = jpegs(1)["scene0.jpg"]
    padded = photo + os.urandom(32 * PIECE)
    location = repository(tmp_path / "small", **archive(tmp_path, site))
    small = peak(location)
    (url,) = site.add({"large.tar": tar_of({f"{n}.jpg": padded for n in range(32)})})
    large = peak(repository(tmp_path / "large", source="archive", location=url))
    print(f"peak of 20 MB: {small / 2**20:.0f} MiB, of 1 GiB: {large / 2**20:.0f} MiB")
    assert large - small < 32 * 2**20


def peak(folder: Path) -> int:
    """Return the most anonymous memory of the stage, in bytes."""
    process = subprocess.Popen(STAGE, cwd=folder, stderr=subprocess.DEVNULL)
    family, most = psutil.Process(process.pid), 0
    while process.poll() is None:
        try:
            memory = family.memory_info()
            most = max(most, memory.rss - memory.shared)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.02)
    assert process.wait() == 0
    return most
