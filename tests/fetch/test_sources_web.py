"""Tables of URLs and data sets of the hub, on a server of the test's own."""

from __future__ import annotations

import csv
import hashlib
import io
import threading
import time
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from patchdm.errors import PatchDMError
from patchdm.fetch.sources import count
from tests.fetch import server
from tests.fetch.arriving import arrive, data_section
from tests.fetch.packs import COMMIT, PACKERS, add_hub
from tests.fetch.server import Site
from tests.photographs import contents, encoded, jpegs, photograph

pytestmark = pytest.mark.usefixtures("no_pauses")
PHOTOGRAPHS = jpegs(12)


def table_of(path: Path, rows: list[dict[str, str]]) -> Path:
    """Write a CSV or parquet file."""
    if path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_tables_arrive(tmp_path: Path, site: Site, suffix: str) -> None:
    urls = site.add(PHOTOGRAPHS)
    rows = [
        {"url": url, "sha256": hashlib.sha256(content).hexdigest(), "licence": "CC0", "size": "1"}
        for url, content in zip(urls, PHOTOGRAPHS.values(), strict=True)
    ]
    location = table_of(tmp_path / f"table.{suffix}", rows)
    raw = arrive(tmp_path / "target", "table", location)
    assert list(raw.files.values()) == list(PHOTOGRAPHS.values())
    assert raw.manifest["image"].tolist() == [f"{n:08}.jpg" for n in range(12)]
    assert raw.manifest["source"].tolist() == urls
    assert set(raw.manifest["licence"]) == {"CC0"}
    assert count(data_section("table", location)) == 12


def test_names_of_a_table_are_used(tmp_path: Path, site: Site) -> None:
    urls = site.add(PHOTOGRAPHS)
    rows = [{"url": url, "name": f"sea/{n}.jpg" if n else ""} for n, url in enumerate(urls)]
    raw = arrive(tmp_path / "target", "table", table_of(tmp_path / "table.csv", rows))
    assert raw.manifest["image"].tolist() == [
        "00000000.jpg", *(f"sea/{n}.jpg" for n in range(1, 12))
    ]  # fmt: skip
    assert set(raw.manifest["licence"]) == {"unknown"}


def test_rows_that_repeat_do_not_disturb_each_other(tmp_path: Path, site: Site) -> None:
    (url,) = site.add({"a.jpg": PHOTOGRAPHS["scene0.jpg"]})
    site.sometimes = server.at_random(0.5, [server.cut(0.7)])
    rows = [{"url": url, "name": ""}] * 20 + [{"url": url, "name": "same.jpg"}] * 5
    location = table_of(tmp_path / "table.csv", rows)
    raw = arrive(tmp_path / "target", "table", location, transfers=16, damaged_fraction=0.2)
    assert len(raw.files) == 21
    assert set(raw.files.values()) == {PHOTOGRAPHS["scene0.jpg"]}
    assert set(raw.reasons) == {"same.jpg"}


def test_dead_links_are_recorded(tmp_path: Path, site: Site) -> None:
    site.add(PHOTOGRAPHS)
    site.add(
        {
            "page.jpg": b"<!DOCTYPE html><title>Sorry</title>",
            "half.jpg": jpegs(1)["scene0.jpg"][:-9],
        }
    )
    site.always["away.jpg"] = server.redirect("/page.jpg")
    names = ["scene0.jpg", "dead.jpg", "page.jpg", "scene1.jpg", "half.jpg", "away.jpg"]
    rows = [{"url": f"{site.url}/{name}", "sha256": ""} for name in names]
    rows += [{"url": f"{site.url}/scene2.jpg", "sha256": "0" * 64}, {"url": "", "sha256": ""}]
    rows += [{"url": "file:///etc/passwd", "sha256": ""}, {"url": "ftp://a/b.jpg", "sha256": ""}]
    location = table_of(tmp_path / "table.csv", rows)
    raw = arrive(tmp_path / "target", "table", location, damaged_fraction=0.8)
    assert raw.manifest["image"].tolist() == ["00000000.jpg", "00000003.jpg"]
    assert raw.outcomes["source"].tolist() == [row["url"] for row in rows]
    reasons = list(raw.reasons.values())
    for reason, words in zip(
        reasons,
        [
            "HTTP 404",
            "found no image",
            "truncated",
            "found no image",
            "found sha256",
            "",
            "file:",
            "ftp:",
        ],
        strict=True,
    ):
        assert words in reason
    with pytest.raises(PatchDMError, match=r"dead\.jpg: found HTTP 404"):
        arrive(tmp_path / "target", "table", location)


def test_the_number_of_transfers_changes_no_byte(tmp_path: Path, site: Site) -> None:
    urls = site.add(PHOTOGRAPHS)
    rows = [{"url": url} for url in urls] + [{"url": f"{site.url}/dead{n}"} for n in range(4)]
    location = table_of(tmp_path / "table.csv", rows)
    found = [
        contents(
            arrive(tmp_path / str(n), "table", location, damaged_fraction=0.5, transfers=n).folder
        )
        for n in (1, 3, 16)
    ]
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("transfers", [1, 5])
def test_so_many_are_transferred_at_the_same_time(
    tmp_path: Path, site: Site, transfers: int
) -> None:
    lock, now, most = threading.Lock(), [0], [0]

    def slowly(handler: server.Handler, content: bytes) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.03)
        with lock:
            now[0] -= 1
        handler.answer(content)

    site.sometimes = lambda _path: slowly
    rows = [{"url": url} for url in site.add(PHOTOGRAPHS)]
    location = table_of(tmp_path / "table.csv", rows)
    arrive(tmp_path / "target", "table", location, transfers=transfers)
    assert most[0] == transfers


def test_a_stopped_download_goes_on_with_what_is_there(tmp_path: Path, site: Site) -> None:
    rows = [{"url": url} for url in site.add(PHOTOGRAPHS)]
    location = table_of(tmp_path / "table.csv", rows)
    site.always["scene7.jpg"] = server.status(404)
    with pytest.raises(PatchDMError, match="HTTP 404"):
        arrive(tmp_path / "target", "table", location, transfers=1)
    before = len(site.asked)
    site.always.clear()
    raw = arrive(tmp_path / "target", "table", location, transfers=1)
    assert list(raw.files.values()) == list(PHOTOGRAPHS.values())
    assert before + len(site.asked[before:]) <= 12 + 1 + 1  # one more may have been under way


def test_damaged_remains_are_fetched_again(tmp_path: Path, site: Site) -> None:
    rows = [{"url": url} for url in site.add(PHOTOGRAPHS)]
    location = table_of(tmp_path / "table.csv", rows)
    first = contents(arrive(tmp_path / "target", "table", location).folder)
    for number, path in enumerate(sorted((tmp_path / "target/state").iterdir())):
        if number % 2:
            path.unlink()  # its other name is in the output
            path.write_bytes(b"half")
    assert contents(arrive(tmp_path / "target", "table", location).folder) == first


def test_an_error_page_is_asked_for_again(tmp_path: Path, site: Site) -> None:
    rows = [{"url": url} for url in site.add(PHOTOGRAPHS)]
    page = server.other(b"<html>too many visitors</html>")
    site.next["scene3.jpg"], site.next["scene4.jpg"] = [page], [server.wrong(Content_Length="99")]
    raw = arrive(tmp_path / "target", "table", table_of(tmp_path / "table.csv", rows))
    assert list(raw.files.values()) == list(PHOTOGRAPHS.values())


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("t.csv", b"", "no readable CSV: found no header"),
        ("t.csv", b"address\nhttp://a\n", "found the columns address, one must be url"),
        ("t.csv", b"url\n", "found no row"),
        ("t.csv", b"\xff\xfe\xff\n", "no readable CSV: .*utf-8"),
        ("t.csv", b"url,sha256\nhttp://a,abc\n", "row 0 has sha256 'abc', expected 64 hex digits"),
        ("t.csv", b'url\n"http://a\n', "no readable CSV: "),
        (
            "t.csv",
            b"url,sha256\na,b,c\nd,e,f\n",
            "line 2: found 3 cells, expected 2 as in the header",
        ),
        ("t.csv", b"url,name\na,b\nhttp://c,d,e\n", "line 3: found 3 cells, expected 2 as in"),
        ("t.csv", b"url,sha256,url\na,,b\n", "found the column url twice, expected it once"),
        ("t.parquet", b"PAR1 not", "no readable CSV or parquet: "),
        ("t.parquet", b"", "no readable CSV or parquet: "),
    ],
)
def test_bad_tables_are_named(tmp_path: Path, name: str, content: bytes, found: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PatchDMError, match=rf"t\.\w+: ({found})") as error:
        arrive(tmp_path / "target", "table", tmp_path / name)
    assert "\n" not in str(error.value)


def test_hashes_may_be_upper_case_and_rows_short(tmp_path: Path, site: Site) -> None:
    content = PHOTOGRAPHS["scene0.jpg"]
    first, second = site.add({"a.jpg": content, "b.jpg": PHOTOGRAPHS["scene1.jpg"]})
    upper = hashlib.sha256(content).hexdigest().upper()
    text = f"\ufeffurl,sha256,name\n{first},{upper},sea.jpg\n\n{second}\n"
    (tmp_path / "t.csv").write_text(text)
    raw = arrive(tmp_path / "target", "table", tmp_path / "t.csv")
    assert raw.files["sea.jpg"] == content
    assert len(raw.files) == 2


@pytest.mark.parametrize("lfs", [True, False])
def test_image_files_of_the_hub_arrive(tmp_path: Path, site: Site, lfs: bool) -> None:
    files = {f"images/{name}": content for name, content in PHOTOGRAPHS.items()}
    add_hub(site, "someone/sea", files | {"README.md": b"# sea"}, lfs=lfs)
    raw = arrive(tmp_path / "target", "hub", "someone/sea", endpoint=site.url)
    assert raw.files == files
    first = f"{site.url}/datasets/someone/sea/resolve/{COMMIT}/images/scene0.jpg"
    assert raw.manifest["source"][0] == first
    assert not [path for path, _ in site.asked if "README" in path and "resolve" in path]


def test_archives_and_parquet_of_the_hub_arrive(tmp_path: Path, site: Site) -> None:
    names = list(PHOTOGRAPHS)
    split = [{name: PHOTOGRAPHS[name] for name in names[n : n + 4]} for n in (0, 4, 8)]
    cells = [{"bytes": content, "path": f"x/{name}"} for name, content in split[2].items()]
    buffer = io.BytesIO()
    pq.write_table(pa.table({"label": [1, 2, 3, 4], "image": cells}), buffer)
    files = {
        "data/a.tar.gz": PACKERS["tar.gz"](split[0]),
        "data/b.zip": PACKERS["zip"](split[1]),
        "data/train-0.parquet": buffer.getvalue(),
    }
    add_hub(site, "someone/sea", files)
    raw = arrive(tmp_path / "target", "hub", "someone/sea", endpoint=site.url, pin=COMMIT)
    expected = {f"data/a/{name}": content for name, content in split[0].items()}
    expected |= {f"data/b/{name}": content for name, content in split[1].items()}
    expected |= {f"data/train-0/{n:08}.jpg": content for n, content in enumerate(split[2].values())}
    assert raw.files == expected
    assert raw.manifest["source"][0] == "someone/sea/data/a.tar.gz/scene0.jpg"


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"README.md": b"#"}, "found neither images nor archives or parquet"),
        ({"a.parquet": b"PAR1"}, "a.parquet: no readable parquet"),
        ({"a.zip": b"PK\x03\x04"}, "no readable archive"),
    ],
)
def test_hub_sets_without_images_are_named(
    tmp_path: Path, site: Site, files: dict[str, bytes], found: str
) -> None:
    add_hub(site, "someone/sea", files)
    with pytest.raises(PatchDMError, match=found) as error:
        arrive(tmp_path / "target", "hub", "someone/sea", endpoint=site.url)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("repository", ["someone/lost", "not a name!", "a/b/c"])
def test_unknown_hub_sets_are_named(tmp_path: Path, site: Site, repository: str) -> None:
    with pytest.raises(PatchDMError, match=f"{repository}: cannot be listed") as error:
        arrive(tmp_path / "target", "hub", repository, endpoint=site.url)
    assert "\n" not in str(error.value)


def test_nothing_of_a_parquet_without_images(tmp_path: Path, site: Site) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"label": [1, 2]}), buffer)
    add_hub(site, "someone/sea", {"a.parquet": buffer.getvalue()})
    with pytest.raises(PatchDMError, match=r"a\.parquet: found no column of encoded images"):
        arrive(tmp_path / "target", "hub", "someone/sea", endpoint=site.url)


def test_empty_cells_are_left_out(tmp_path: Path, site: Site) -> None:
    png = encoded(photograph(0), "PNG")
    buffer = io.BytesIO()
    pq.write_table(pa.table({"image": [png, None, b"junk", png]}), buffer)
    add_hub(site, "someone/sea", {"a.parquet": buffer.getvalue()})
    raw = arrive(tmp_path / "target", "hub", "someone/sea", endpoint=site.url, damaged_fraction=0.5)
    assert list(raw.files) == ["a/00000000", "a/00000003"]
