"""Archives of every kind, local and at URLs; LSUN's databases."""

from __future__ import annotations

import hashlib
import multiprocessing
import shutil
from pathlib import Path

import pytest

from patchdm.errors import PatchDMError
from patchdm.fetch.sources import count
from patchdm.formats.raw import open_photograph
from tests.fetch import server
from tests.fetch.arriving import arrive, data_section
from tests.fetch.packs import PACKERS, hash_of, lsun_zip, write_lmdb, zip_of
from tests.fetch.server import Site
from tests.photographs import encoded, jpegs, photograph

FILES = {
    "sea/scene0.jpg": jpegs(1)["scene0.jpg"],
    "sea/deep/er/a.PNG": encoded(photograph(1), "PNG"),
    "Zürich 🏔.webp": encoded(photograph(2), "WEBP"),
}
CLUTTER = {"README.md": b"# sea", "sea/table.csv": b"a,b"}
KEYS = {
    hashlib.sha1(content).hexdigest().encode(): encoded(photograph(n), "WEBP")
    for n, content in enumerate(jpegs(9).values())
}


@pytest.mark.parametrize("kind", PACKERS)
def test_archives_of_every_kind_arrive(tmp_path: Path, kind: str) -> None:
    location = tmp_path / f"mine.{kind}"
    location.write_bytes(PACKERS[kind](FILES | CLUTTER))
    raw = arrive(tmp_path / "target", "archive", location)
    assert raw.files == FILES
    assert raw.manifest["image"].tolist() == list(FILES)
    assert raw.manifest["source"].tolist() == [f"mine.{kind}/{name}" for name in FILES]
    assert count(data_section("archive", location)) == 3


def test_the_content_says_which_kind_not_the_name(tmp_path: Path) -> None:
    location = tmp_path / "mine.zip"
    location.write_bytes(PACKERS["tar.gz"](FILES))
    assert arrive(tmp_path / "target", "archive", location).files == FILES


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("kind", PACKERS)
def test_archives_arrive_from_addresses(tmp_path: Path, site: Site, kind: str) -> None:
    content = PACKERS[kind](FILES | CLUTTER)
    (url,) = site.add({f"mine.{kind}": content})
    site.next[f"mine.{kind}"] = [server.cut(0.5), server.status(503), server.reset]
    pin = hashlib.sha256(content).hexdigest()
    raw = arrive(tmp_path / "target", "archive", url, pin=pin)
    assert raw.files == FILES
    assert raw.manifest["source"].tolist() == [f"{url}/{name}" for name in FILES]
    with pytest.raises(PatchDMError, match="known once it is here"):
        count(data_section("archive", url))


def test_another_archive_than_the_pinned_one_is_refused(tmp_path: Path, site: Site) -> None:
    content = zip_of(FILES)
    (url,) = site.add({"mine.zip": content})
    (tmp_path / "mine.zip").write_bytes(content)
    found = hashlib.sha256(content).hexdigest()
    for location in (url, tmp_path / "mine.zip"):
        match = rf"mine\.zip: found sha256 {found}, expected {'0' * 64}"
        with pytest.raises(PatchDMError, match=match):
            arrive(tmp_path / "target", "archive", location, pin="0" * 64)
    assert list((tmp_path / "target/state").iterdir()) == []


def test_archives_without_images_are_named(tmp_path: Path) -> None:
    location = tmp_path / "mine.zip"
    location.write_bytes(zip_of(CLUTTER))
    with pytest.raises(PatchDMError, match=r"mine\.zip: found no image in it"):
        arrive(tmp_path / "target", "archive", location)
    with pytest.raises(PatchDMError, match=r"lost\.zip: data\.location is no file"):
        arrive(tmp_path / "target", "archive", tmp_path / "lost.zip")


@pytest.mark.parametrize("kind", ["folder", "zip", "address"])
def test_lsun_arrives_as_one_database(tmp_path: Path, site: Site, kind: str) -> None:
    location: Path | str = lsun_zip(tmp_path, KEYS)
    if kind == "folder":
        location = tmp_path / "church_lmdb"
    elif kind == "address":
        (location,) = site.add({"church_lmdb.zip": (tmp_path / "church_lmdb.zip").read_bytes()})
    raw = arrive(tmp_path / "target", "lsun", location)
    assert list(raw.files) == ["lmdb/data.mdb"]
    expected = {f"lmdb/{key.decode()}": value for key, value in sorted(KEYS.items())}
    assert raw.manifest["image"].tolist() == list(expected)
    assert raw.manifest["bytes"].tolist() == [len(value) for value in expected.values()]
    assert raw.manifest["sha256"].tolist() == [
        hashlib.sha256(value).hexdigest() for value in expected.values()
    ]
    published = {"folder": "church_lmdb", "zip": "church_lmdb.zip"}.get(kind, location)
    assert set(raw.manifest["source"]) == {published}
    for name, value in expected.items():
        assert open_photograph(raw.folder, name).read() == value
    assert sorted(path.name for path in (raw.folder / "lmdb").iterdir()) == ["data.mdb"]


def test_bad_entries_are_left_out_of_the_manifest(tmp_path: Path) -> None:
    (first, content), (second, _), *_ = sorted(KEYS.items())
    entries = KEYS | {first: content[:-50], second: b"<html>"}
    location = write_lmdb(tmp_path / "church_lmdb", entries)
    raw = arrive(tmp_path / "target", "lsun", location, damaged_fraction=0.25)
    assert len(raw.manifest) == len(KEYS) - 2
    assert len(raw.outcomes) == len(KEYS)
    assert set(raw.reasons) == {f"lmdb/{first.decode()}", f"lmdb/{second.decode()}"}
    with pytest.raises(PatchDMError, match=rf"lmdb/{first.decode()}: (damaged|truncated) image"):
        arrive(tmp_path / "target", "lsun", location)


@pytest.mark.parametrize("source", ["archive", "lsun"])
@pytest.mark.usefixtures("no_pauses")
def test_what_could_not_be_read_is_fetched_again(tmp_path: Path, site: Site, source: str) -> None:
    content = PACKERS["tar.gz"](FILES)
    if source == "lsun":
        content = lsun_zip(tmp_path, KEYS).read_bytes()
    (url,) = site.add({"mine": content})
    for bad in (b"<html>Sorry</html>", content[:-2000], zip_of({"data.mdb": b"junk" * 9999})):
        site.next["mine"] = [server.other(bad)]
        with pytest.raises(PatchDMError, match="mine: |data.mdb: |no image"):
            arrive(tmp_path / "target", source, url)
    assert len(arrive(tmp_path / "target", source, url).manifest) in (len(FILES), len(KEYS))


def test_a_damaged_database_is_copied_again(tmp_path: Path) -> None:
    location = write_lmdb(tmp_path / "x_lmdb", KEYS)
    whole = (location / "data.mdb").read_bytes()
    for bad in (whole[:9000], whole[:8192] + b"\xff" * (len(whole) - 8192)):
        (location / "data.mdb").write_bytes(bad)
        with pytest.raises(PatchDMError, match=r"data\.mdb: "):
            arrive(tmp_path / "target", "lsun", location)
    (location / "data.mdb").write_bytes(whole)
    assert len(arrive(tmp_path / "target", "lsun", location).manifest) == len(KEYS)


def test_any_key_has_a_name(tmp_path: Path) -> None:
    keys = [b"a/../b", b"\x00\xff", b"a b%", "é".encode(), b".", b"A", b"a"]
    entries = dict(zip(keys, KEYS.values(), strict=False))
    raw = arrive(tmp_path / "target", "lsun", write_lmdb(tmp_path / "x_lmdb", entries))
    assert raw.manifest["image"].is_unique
    found = [open_photograph(raw.folder, name).read() for name in raw.manifest["image"]]
    assert found == [entries[key] for key in sorted(entries)]


def test_photographs_open_in_all_processes(tmp_path: Path) -> None:
    raw = arrive(tmp_path / "target", "lsun", write_lmdb(tmp_path / "x_lmdb", KEYS)).folder
    names = [f"lmdb/{key.decode()}" for key in sorted(KEYS)]
    here = [hash_of(raw, name) for name in names]
    for method in ("fork", "forkserver"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert pool.starmap(hash_of, [(raw, name) for name in names]) == here


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    raw = arrive(tmp_path / "target", "lsun", write_lmdb(tmp_path / "x_lmdb", KEYS)).folder
    with pytest.raises(PatchDMError, match=r"lmdb/data\.mdb: nowhere: not found"):
        open_photograph(raw, "lmdb/nowhere")
    with pytest.raises(PatchDMError, match=r"raw/nowhere\.jpg: cannot be read: No such file"):
        open_photograph(raw, "nowhere.jpg")
    shutil.rmtree(raw / "lmdb")
    with pytest.raises(PatchDMError, match=r"raw/lmdb/nowhere: cannot be read: No such file"):
        open_photograph(raw, "lmdb/nowhere")


def test_another_database_in_its_place_is_opened_again(tmp_path: Path) -> None:
    halves = [dict(list(KEYS.items())[:4]), dict(list(KEYS.items())[4:])]
    for number, entries in enumerate(halves):
        raw = arrive(tmp_path / "target", "lsun", write_lmdb(tmp_path / f"{number}", entries))
        for key, value in entries.items():
            assert open_photograph(raw.folder, f"lmdb/{key.decode()}").read() == value
        shutil.rmtree(tmp_path / "target/state")
