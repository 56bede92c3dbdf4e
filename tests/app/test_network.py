"""The studio's server behind a real socket: bursts, large bodies, strangers."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from patchdm.app.work import Studio
from tests.cli.runs import HEIGHT, WIDTH

SAMPLE = {"kind": "sample", "seeds": [3], "width": WIDTH, "height": HEIGHT}
BURST = 200


def test_a_burst_from_many_at_once_is_answered(address: str, monkeypatch: pytest.MonkeyPatch):
    go_on = threading.Event()
    monkeypatch.setattr(Studio, "perform", lambda *_: go_on.wait(60) and None)
    with httpx.Client(base_url=address, timeout=60) as client, ThreadPoolExecutor(50) as threads:

        def ask(_: int) -> str:
            response = client.post("api/jobs", json=SAMPLE)
            assert response.status_code == 202
            return str(response.json()["id"])

        ids = list(threads.map(ask, range(BURST)))
        listed = client.get("api/jobs").json()["jobs"]
        assert {job["id"] for job in listed} == set(ids)
        assert sorted(job["place"] for job in listed) == list(range(BURST))
        go_on.set()
        end = time.monotonic() + 60
        states = {"queued"}
        while states != {"done"} and time.monotonic() < end:
            states = {job["state"] for job in client.get("api/jobs").json()["jobs"]}
    assert states == {"done"}
    assert len(ids) == BURST


def test_a_large_body_is_refused_and_the_server_goes_on(address: str):
    def body(size: int = 100):
        for _ in range(size):
            yield bytes(2**20)

    with httpx.Client(base_url=address, timeout=60) as client:
        try:
            answer = client.post("api/images", content=body())
        except httpx.WriteError:  # cut off while it still writes
            answer = None
        assert answer is None or answer.status_code == 413
        assert client.get("api/model").status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil"])
def test_a_hostile_host_gets_nothing(address: str, host: str):
    for path in ("", "api/model", "static/main.js", "docs"):
        response = httpx.get(address + path, headers={"Host": host})
        assert response.status_code == 421
        assert list(response.json()) == ["error"]
