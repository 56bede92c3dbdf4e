"""Hostile archives, tables and folders end in one line; nothing leaves the target."""

from __future__ import annotations

import hashlib
import importlib
import io
import os
import stat
import zipfile
from pathlib import Path
from typing import get_args

import pytest
from ruamel.yaml import YAML

from patchdm.config import Data, load_params
from patchdm.errors import PatchDMError
from patchdm.fetch import arrival
from patchdm.fetch.sources import count, open_source
from patchdm.fetch.sources.listing import Workspace
from patchdm.formats.raw import read_manifest
from tests.fetch.arriving import arrive, data_section, silent
from tests.photographs import (
    BUNDLED,
    ROOT,
    contents,
    encoded,
    jpegs,
    photograph,
    write_bundle,
    write_folder,
    write_table,
)

HEADER = b"file,author,origin,licence,sha256\n"


def archive_of(location: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(location, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return location


def test_bundled_photographs_are_all_good(tmp_path: Path) -> None:
    raw = arrive(tmp_path, "bundled", BUNDLED)
    assert len(raw.manifest) == len(raw.files) == 195
    assert set(raw.manifest["licence"]) == {"public domain", "CC0-1.0"}
    assert raw.manifest["source"].str.startswith("endless-sky-high-dpi 0.11.0, ").all()
    assert raw.manifest["bytes"].sum() == 12_753_494
    assert set(raw.outcomes["outcome"]) == {"ok"}


def test_a_table_may_have_no_authors(tmp_path: Path) -> None:
    location = write_bundle(tmp_path, jpegs(2))
    table = location.with_suffix(".csv")
    table.write_text(table.read_text().replace("author,", "").replace("someone,", ""))
    raw = arrive(tmp_path / "target", "bundled", location)
    assert set(raw.manifest["source"]) == {"example.org"}
    assert raw.files == jpegs(2)


@pytest.mark.parametrize(
    "name",
    ["../scene0.jpg", "/scene0.jpg", "a/../../scene0.jpg", "C:/scene0.jpg"],
)
def test_member_names_that_leave_the_archive_are_refused(tmp_path: Path, name: str) -> None:
    location = archive_of(tmp_path / "bundle.zip", {name: jpegs(1)["scene0.jpg"]})
    write_table(location, jpegs(1))
    with pytest.raises(PatchDMError, match=r"found the name .*scene0.*expected inner paths"):
        arrive(tmp_path / "deep/target", "bundled", location)
    outside = {name for name in contents(tmp_path) if not name.startswith("deep/target/state/")}
    assert outside == {"bundle.zip", "bundle.csv"}


@pytest.mark.parametrize("name", ["../scene0.jpg", "/etc/scene0.jpg", "..", "", "a" * 300])
def test_table_names_that_are_paths_are_refused(tmp_path: Path, name: str) -> None:
    location = write_bundle(tmp_path, jpegs(1))
    write_table(location, {name: jpegs(1)["scene0.jpg"]})
    with pytest.raises(PatchDMError, match=r"bundle\.csv: found file .*, expected bare names"):
        arrive(tmp_path / "target", "bundled", location)


def test_links_are_refused(tmp_path: Path) -> None:
    location = tmp_path / "bundle.zip"
    link = zipfile.ZipInfo("scenes/scene0.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(location, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    write_table(location, {"scene0.jpg": b"/etc/passwd"})
    with pytest.raises(PatchDMError, match=r"scenes/scene0\.jpg: is no regular file"):
        arrive(tmp_path / "target", "bundled", location)


def test_wrong_hash_names_file_found_and_allowed(tmp_path: Path) -> None:
    files = jpegs(3)
    location = write_bundle(tmp_path, files)
    write_table(location, files | {"scene1.jpg": files["scene2.jpg"]})
    with pytest.raises(PatchDMError) as error:
        arrive(tmp_path / "target", "bundled", location)
    message = str(error.value)
    assert "bundle.zip/scenes/scene1.jpg: found sha256 " in message
    assert hashlib.sha256(files["scene1.jpg"]).hexdigest() in message
    assert hashlib.sha256(files["scene2.jpg"]).hexdigest() in message


def test_surplus_missing_and_twofold_files_are_named(tmp_path: Path) -> None:
    files = jpegs(3)
    location = write_bundle(tmp_path, files)
    write_table(location, jpegs(2))
    with pytest.raises(PatchDMError, match=r"found scene2\.jpg, which is not in .*bundle\.csv"):
        arrive(tmp_path / "target", "bundled", location)

    write_table(location, jpegs(4))
    with pytest.raises(PatchDMError, match=r"bundle\.zip: scene3\.jpg is missing"):
        arrive(tmp_path / "target", "bundled", location)

    archive_of(location, {"a/scene0.jpg": b"1", "b/scene0.jpg": b"2"})
    with pytest.raises(PatchDMError, match=r"found two files named scene0\.jpg, expected one"):
        arrive(tmp_path / "target", "bundled", location)


def test_flipped_bit_of_an_archive_is_found(tmp_path: Path) -> None:
    location = write_bundle(tmp_path, jpegs(2))
    damaged = bytearray(location.read_bytes())
    damaged[len(damaged) // 4] ^= 1
    location.write_bytes(damaged)
    with pytest.raises(PatchDMError, match=r"bundle\.zip/scenes/scene0\.jpg: cannot be read"):
        arrive(tmp_path / "target", "bundled", location)


def test_encrypted_members_are_named(tmp_path: Path) -> None:
    location = write_bundle(tmp_path, jpegs(1))
    content = bytearray(location.read_bytes())
    content[6] |= 1  # general purpose flags: encrypted, in the local header
    content[content.index(b"PK\x01\x02") + 8] |= 1  # and in the directory
    location.write_bytes(content)
    with pytest.raises(PatchDMError, match=r"scene0\.jpg: is encrypted"):
        arrive(tmp_path / "target", "bundled", location)


def test_zip_bombs_are_stopped_at_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrival, "MAX_BYTES", 3_000_000)
    location, bomb = tmp_path / "bundle.zip", bytes(10_000_000)
    with zipfile.ZipFile(location, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("scene0.jpg", bomb)
    write_table(location, {"scene0.jpg": bomb})
    with pytest.raises(PatchDMError, match=r"scene0\.jpg: found more than 3000000 bytes"):
        arrive(tmp_path / "target", "bundled", location)
    assert max(map(len, contents(tmp_path / "target").values())) <= 3_000_000


@pytest.mark.parametrize(
    ("table", "found"),
    [
        (b"", "no readable CSV"),
        (b"\xff\xfe\x00", "no readable CSV"),
        (b"file,licence\n", "found .'file', 'licence'., expected the columns"),
        (HEADER + b"a.jpg,who,here\n", "found .'a.jpg', 'who', 'here'., expected .*'author'"),
        (HEADER + b"a.jpg,who,x,y,abc\n", "a.jpg has sha256 'abc', expected 64"),
        (
            HEADER + 2 * (b"a.jpg,who,x,y," + b"0" * 64 + b"\n"),
            "a.jpg is listed twice",
        ),
        (b"file,origin,licence,sha256\na.jpg,here\n", "found .'a.jpg', 'here'., expected"),
    ],
)
def test_bad_tables_are_named(tmp_path: Path, table: bytes, found: str) -> None:
    location = write_bundle(tmp_path, jpegs(1))
    location.with_suffix(".csv").write_bytes(table)
    with pytest.raises(PatchDMError, match=rf"bundle\.csv: {found}"):
        arrive(tmp_path / "target", "bundled", location)


def test_missing_archives_and_tables_are_named(tmp_path: Path) -> None:
    location = write_bundle(tmp_path, jpegs(1))
    location.write_bytes(location.read_bytes()[:-5])
    with pytest.raises(PatchDMError, match=r"bundle\.zip: no readable archive"):
        arrive(tmp_path / "target", "bundled", location)
    location.unlink()
    with pytest.raises(PatchDMError, match=r"bundle\.zip: no readable archive"):
        arrive(tmp_path / "target", "bundled", location)
    location.with_suffix(".csv").unlink()
    with pytest.raises(PatchDMError, match=r"bundle\.csv: no readable CSV"):
        arrive(tmp_path / "target", "bundled", location)


def test_folder_finds_every_image_below_it(tmp_path: Path) -> None:
    files = {
        "b.JPG": encoded(photograph(0)),
        "deep/er/a.png": encoded(photograph(1), "PNG"),
        "deep/a.webp": encoded(photograph(2), "WEBP"),
    }
    location = write_folder(tmp_path / "mine", files | {"notes.txt": b"not an image"})
    (location / "deep/lost.jpg").symlink_to(location / "nowhere.jpg")
    os.mkfifo(location / "pipe.jpg")  # opening it would wait for ever
    raw = arrive(tmp_path / "target", "folder", location)
    assert raw.manifest["image"].tolist() == sorted(files)
    assert raw.files == files
    assert count(data_section("folder", "mine"), tmp_path) == 3


def test_folders_without_images_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(PatchDMError, match="empty: found no image, it is empty"):
        arrive(tmp_path / "target", "folder", tmp_path / "empty")
    with pytest.raises(PatchDMError, match=r"notes\.txt: data\.location is no folder"):
        arrive(tmp_path / "target", "folder", tmp_path / "notes.txt")


def test_bad_images_are_named_by_where_they_come_from(tmp_path: Path) -> None:
    good = jpegs(2)
    location = write_folder(tmp_path / "mine", good | {"scene1.jpg": good["scene1.jpg"][:-100]})
    with pytest.raises(PatchDMError, match=r"mine/scene1\.jpg: truncated image, its end"):
        arrive(tmp_path / "target", "folder", location)
    (location / "scene1.jpg").write_text("404 Not Found")
    with pytest.raises(PatchDMError, match=r"mine/scene1\.jpg: found no image.*404 Not Foun.*JPEG"):
        arrive(tmp_path / "target", "folder", location)


def test_as_many_bad_images_as_allowed_are_left_out(tmp_path: Path) -> None:
    good = jpegs(8)
    location = write_folder(tmp_path / "mine", good | {"scene3.jpg": b"", "scene5.jpg": b"404"})
    raw = arrive(tmp_path / "target", "folder", location, damaged_fraction=0.25)
    left_out = {"scene3.jpg", "scene5.jpg"}
    assert set(raw.files) == set(raw.manifest["image"]) == set(good) - left_out
    assert raw.outcomes["image"].tolist() == sorted(good)
    assert set(raw.reasons) == left_out
    assert raw.reasons["scene3.jpg"].endswith("scene3.jpg: found no bytes")
    with pytest.raises(PatchDMError, match="number 2 of 8 .*data.damaged_fraction allows 1"):
        arrive(tmp_path / "target", "folder", location, damaged_fraction=0.24)


def test_vanished_files_are_named(tmp_path: Path) -> None:
    location = write_folder(tmp_path / "mine", jpegs(2))
    workspace = Workspace(Path(), tmp_path / "state", 1, silent)
    with open_source(data_section("folder", location), workspace) as listing:
        (location / "scene1.jpg").unlink()
        first, second = listing.arrivals
    assert first.refused is None
    assert second.refused.endswith("mine/scene1.jpg: cannot be read: No such file or directory")


def test_unreadable_manifests_are_named(tmp_path: Path) -> None:
    with pytest.raises(PatchDMError, match=r"manifest\.parquet: cannot be read"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.parquet").write_bytes(b"PAR1" + bytes(40))
    with pytest.raises(PatchDMError, match=r"manifest\.parquet: cannot be read"):
        read_manifest(tmp_path)


def test_copying_does_not_hold_a_file_in_memory(tmp_path: Path) -> None:
    sizes: list[int] = []

    class Stream(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            chunk = super().read(size)
            sizes.append(len(chunk))
            return chunk

    arrival.copy(Stream(bytes(5_000_000)), tmp_path / "a.jpg", "a.jpg")
    assert (tmp_path / "a.jpg").stat().st_size == sum(sizes) == 5_000_000
    assert max(sizes) == arrival.PIECE


@pytest.mark.parametrize(
    ("source", "data", "found"),
    [
        ("folder", {"pin": "0" * 64}, "data: pin: found '0+', expected with source folder: null"),
        ("archive", {"pin": "0" * 40}, "with source archive: null or 64 hex digits"),
        ("lsun", {"pin": ""}, "data: pin: found '', expected with source lsun: null or 64"),
        ("hub", {"pin": "main"}, "data: pin: found 'main', .* source hub: null or 40 hex digits"),
        ("table", {"endpoint": "http://a"}, "data: endpoint: found 'http://a', .* table: null"),
        ("s3", {"endpoint": "a:9000"}, "data: endpoint: found 'a:9000', .* s3: null or http"),
        ("hub", {"credentials": "me"}, "data: credentials: found 'me', .* default, anonymous"),
        ("ftp", {}, "data.source: found 'ftp', input should be 'bundled', 'folder', 'archive'"),
        ("s3", {"damaged_fraction": 1.0}, "data.damaged_fraction: found 1.0, .* less than 1"),
    ],
)
def test_keys_that_do_not_fit_are_named(
    tmp_path: Path, source: str, data: dict[str, object], found: str
) -> None:
    yaml = YAML(typ="safe", pure=True)
    values = yaml.load(ROOT / "presets/smoke.yaml")
    values["data"] |= {"source": source, **data}
    yaml.dump(values, tmp_path / "params.yaml")
    with pytest.raises(PatchDMError, match=found):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("source", get_args(Data.model_fields["source"].annotation))
def test_every_source_of_params_has_its_module(source: str) -> None:
    module = importlib.import_module(f"patchdm.fetch.sources.{source}")
    assert callable(module.open_listing)


def test_credits_of_a_folder_name_licences(tmp_path: Path) -> None:
    files = {"a/x.jpg": encoded(photograph(0)), "y.jpg": encoded(photograph(1))}
    location = write_folder(tmp_path / "mine", files)
    (location / "credits.csv").write_text("file,author,licence\na/x.jpg,Ada,CC0-1.0\ny.jpg,Bob,\n")
    raw = arrive(tmp_path / "target", "folder", location)
    licences = raw.manifest.set_index("image")["licence"]
    assert licences.to_dict() == {"a/x.jpg": "CC0-1.0", "y.jpg": "unknown"}
    assert set(raw.files) == {"a/x.jpg", "y.jpg"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,licence\n", "found the columns ['file', 'licence'], expected ['file', 'author', "),
        ("name,author,licence\n", "found the columns ['name', 'author', 'licence'], expected"),
        ("file,author,licence\nx.jpg,Ada\n", "found ['x.jpg', 'Ada'], expected the columns"),
        ("file,author,licence\nx.jpg,A,B\nx.jpg,A,B\n", "x.jpg is listed twice, expected once"),
        ("", "no readable CSV: found no header"),
    ],
)
def test_wrong_credits_are_one_line(tmp_path: Path, text: str, message: str) -> None:
    location = write_folder(tmp_path / "mine", {"x.jpg": encoded(photograph(0))})
    (location / "credits.csv").write_text(text)
    with pytest.raises(PatchDMError) as error:
        count(data_section("folder", location))
    assert str(error.value).startswith(f"{location / 'credits.csv'}: {message}")
