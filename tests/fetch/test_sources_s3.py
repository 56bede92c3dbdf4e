"""S3 prefixes: a real server behind a proxy that misbehaves (slow), and answers of our own."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.retries.standard import ExponentialBackoff

from patchdm.errors import PatchDMError
from patchdm.fetch.sources import count, s3
from tests.fetch import server
from tests.fetch.arriving import arrive, data_section
from tests.fetch.server import Site
from tests.photographs import contents, jpegs
from tests.pipelines.s3 import BUCKET, KEY, S3, SECRET, serve

MANY = 1100
"""More than one page of a listing."""
ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>Please wait</Message></Error>"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry at once, with credentials that only the test's server knows."""
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda *_: 0)
    for name, value in {"ACCESS_KEY_ID": KEY, "SECRET_ACCESS_KEY": SECRET}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def page(keys: dict[str, bytes]) -> bytes:
    """Return the listing of a bucket."""
    entries = "".join(
        f"<Contents><Key>{key}</Key><Size>{len(content)}</Size>"
        f"<ETag>&quot;{hashlib.md5(content).hexdigest()}&quot;</ETag></Contents>"
        for key, content in keys.items()
    )
    return (
        f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>".encode()
    )


def fill(site: Site, keys: dict[str, bytes]) -> None:
    """Make a web server answer like S3 that holds some objects in bucket `b` under `sea/`."""
    site.files |= {f"b/{key}": content for key, content in keys.items()}
    listed = "b?list-type=2&prefix=sea%2F&encoding-type=url"
    site.files[listed] = page(keys)


def test_objects_under_a_prefix_arrive(tmp_path: Path, site: Site) -> None:
    files = {f"sea/deep/{name}": content for name, content in jpegs(5).items()}
    fill(site, files | {"sea/": b"", "sea/notes.txt": b"hello"})
    raw = arrive(
        tmp_path / "target", "s3", "s3://b/sea", endpoint=site.url, credentials="anonymous"
    )
    assert raw.files == {name.removeprefix("sea/"): content for name, content in files.items()}
    assert raw.manifest["source"].tolist() == [f"s3://b/{key}" for key in files]
    assert not [path for path, _ in site.asked if "notes" in path]


@pytest.mark.parametrize(
    ("location", "data", "found"),
    [
        ("bucket/sea", {}, "found 'bucket/sea', expected with source s3: s3://bucket/prefix"),
        ("https://b/sea", {}, "expected with source s3: s3://bucket/prefix"),
        ("s3://b/sea", {"credentials": "nobody"}, "profile .nobody. could not be found"),
        ("s3://b/sea", {"endpoint": "http://127.0.0.1:9"}, "Could not connect to the endpoint"),
        ("s3://B A D/sea", {"endpoint": "http://127.0.0.1:9"}, "Invalid bucket name"),
    ],
)
def test_wrong_places_are_named(
    tmp_path: Path, location: str, data: dict[str, Any], found: str
) -> None:
    with pytest.raises(PatchDMError, match=found) as error:
        arrive(tmp_path / "target", "s3", location, **data)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("code", ["NoSuchBucket", "AccessDenied", "InvalidAccessKeyId", "Odd"])
def test_refusals_are_named(tmp_path: Path, site: Site, code: str) -> None:
    site.sometimes = lambda _path: server.raw(
        b"HTTP/1.1 403 No\r\nConnection: close\r\n\r\n" + ERROR.format(code).encode()
    )
    with pytest.raises(PatchDMError, match=rf"s3://b/sea: cannot be listed: .*\({code}\)"):
        arrive(tmp_path / "target", "s3", "s3://b/sea", endpoint=site.url)


def test_prefixes_without_images_are_named(tmp_path: Path, site: Site) -> None:
    fill(site, {"sea/notes.txt": b""})
    with pytest.raises(PatchDMError, match=r"s3://b/sea: found no image"):
        arrive(tmp_path / "target", "s3", "s3://b/sea", endpoint=site.url)


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        (server.status(404), "404"),
        (server.status(500), "500"),
        (server.status(503), "503"),
        (server.reset, "Could not connect|Connection was closed|Connection broken|reset"),
        (server.hang_up, "Connection was closed"),
        (server.cut(0.5), "Read timeout|broken|IncompleteRead|Max Retries"),
        (server.lie(0.5), "bytes, expected .* as listed"),
        (server.other(b"<html>Sorry</html>"), "bytes, expected .* as listed"),
        (server.redirect("file:///etc/passwd"), "302"),
    ],
    ids=["404", "500", "503", "reset", "hang_up", "cut", "short", "page", "redirect"],
)
def test_lost_objects_are_left_out_with_the_reason(
    tmp_path: Path, site: Site, fault: server.Fault, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(s3.RETRIES, "max_attempts", 2)
    fill(site, {f"sea/{name}": content for name, content in jpegs(4).items()})
    site.always["b/sea/scene2.jpg"] = fault
    raw = arrive(tmp_path / "target", "s3", "s3://b/sea", endpoint=site.url, damaged_fraction=0.25)
    assert list(raw.files) == ["scene0.jpg", "scene1.jpg", "scene3.jpg"]
    assert list(raw.reasons) == ["scene2.jpg"]
    assert re.search(found, raw.reasons["scene2.jpg"])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """A real S3 server with more objects than a page of a listing."""
    with serve(tmp_path_factory.mktemp("s3") / "server") as found:
        client = boto3.client(
            "s3", endpoint_url=found.url, aws_access_key_id=KEY, aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )  # fmt: skip

        def put(item: tuple[str, bytes]) -> None:
            client.put_object(Bucket=BUCKET, Key=item[0], Body=item[1])

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(put, objects().items()))
        yield found


def objects() -> dict[str, bytes]:
    """Return what is in the bucket."""
    scenes = list(jpegs(20).values())
    many = {f"many/{n // 100}/{n:04}.jpg": scenes[n % 20] + f"{n}".encode() for n in range(MANY)}
    large = {"large/a.jpg": scenes[0] + bytes(20_000_000)}
    return many | large | {"manyfold/x.jpg": scenes[0], "many/read.me": b"1"}


@pytest.mark.slow
def test_more_than_a_page_of_a_real_server(tmp_path: Path, store: S3) -> None:
    location, data = f"s3://{BUCKET}/many", {"endpoint": store.url}
    raw = arrive(tmp_path / "target", "s3", location, transfers=8, **data)
    assert raw.files == {
        key.removeprefix("many/"): content
        for key, content in objects().items()
        if key.startswith("many/") and key.endswith(".jpg")
    }
    assert count(data_section("s3", location, **data)) == MANY
    with pytest.raises(PatchDMError, match=r"cannot be listed: .*AccessDenied"):
        arrive(tmp_path / "other", "s3", location, transfers=8, **data, credentials="anonymous")


@pytest.mark.slow
def test_a_third_of_faulty_requests_costs_nothing(tmp_path: Path, store: S3, site: Site) -> None:
    slow_down = server.raw(
        b"HTTP/1.1 503 Slow Down\r\nConnection: close\r\n\r\n" + ERROR.format("SlowDown").encode()
    )
    faults = [
        server.status(500), server.status(503), slow_down, server.reset, server.hang_up,
        server.cut(0.5), server.cut(0.9, reset=True), server.lie(1.5), server.lie(0.5),
    ]  # fmt: skip
    data = {"transfers": 8}
    right = arrive(tmp_path / "a", "s3", f"s3://{BUCKET}/many", endpoint=store.url, **data)
    site.behind, site.sometimes = store.url, server.at_random(1 / 3, faults)
    wrong = arrive(tmp_path / "b", "s3", f"s3://{BUCKET}/many", endpoint=site.url, **data)
    assert contents(wrong.folder) == contents(right.folder)
    assert len(site.asked) > 1.3 * MANY


@pytest.mark.slow
def test_large_objects_come_in_ranges(tmp_path: Path, store: S3, site: Site) -> None:
    site.behind = store.url
    cut = server.cut(0.5)
    site.next[f"{BUCKET}/large/a.jpg"] = [None, cut, None, cut, cut]
    raw = arrive(tmp_path / "target", "s3", f"s3://{BUCKET}/large", endpoint=site.url)
    assert raw.files == {"a.jpg": objects()["large/a.jpg"]}
    assert len({asked for _, asked in site.asked if asked}) == 3
