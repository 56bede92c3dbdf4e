"""Hostile archives, tables and folders end in one line; nothing leaves the target."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from pathlib import Path

import pytest

from patchdm.data import sources
from patchdm.data.raw import Photograph, read_manifest
from patchdm.data.sources import SOURCES, bundled, fetch, folder
from patchdm.errors import PatchDMError
from tests.data.photographs import (
    BUNDLED,
    contents,
    encoded,
    jpegs,
    photograph,
    write_bundle,
    write_folder,
    write_table,
)


def fetch_all(source: str, location: Path, target: Path) -> list[Photograph]:
    with SOURCES[source](location) as items:
        return [fetch(item, target) for item in items]


def archive_of(location: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(location, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return location


def test_bundled_photographs_are_all_good(tmp_path: Path) -> None:
    photographs = fetch_all("bundled", BUNDLED, tmp_path)
    assert len(photographs) == len(contents(tmp_path)) == 141
    assert {photograph.licence for photograph in photographs} == {"public domain"}
    assert sum(photograph.bytes for photograph in photographs) == 5_224_776


@pytest.mark.parametrize(
    "name",
    ["../scene0.jpg", "/scene0.jpg", "a/../../scene0.jpg", "..\\scene0.jpg", "C:\\scene0.jpg"],
)
def test_member_names_that_leave_the_archive_are_refused(tmp_path: Path, name: str) -> None:
    location = archive_of(tmp_path / "bundle.zip", {name: jpegs(1)["scene0.jpg"]})
    write_table(location, jpegs(1))
    with pytest.raises(PatchDMError, match=r"bundle\.zip: found .*scene0.*allowed are inner paths"):
        fetch_all("bundled", location, tmp_path / "deep/target")
    assert set(contents(tmp_path)) == {"bundle.zip", "bundle.csv"}


@pytest.mark.parametrize("name", ["../scene0.jpg", "/etc/scene0.jpg", "..", "", "a" * 300])
def test_table_names_that_are_paths_are_refused(tmp_path: Path, name: str) -> None:
    location = write_bundle(tmp_path, jpegs(1))
    write_table(location, {name: jpegs(1)["scene0.jpg"]})
    with pytest.raises(PatchDMError, match=r"bundle\.csv: found file .*, allowed are bare names"):
        fetch_all("bundled", location, tmp_path / "target")


def test_links_are_refused(tmp_path: Path) -> None:
    location = tmp_path / "bundle.zip"
    link = zipfile.ZipInfo("scenes/scene0.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(location, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    write_table(location, {"scene0.jpg": b"/etc/passwd"})
    with pytest.raises(PatchDMError, match=r"scenes/scene0\.jpg is no regular file"):
        fetch_all("bundled", location, tmp_path / "target")


def test_wrong_hash_names_file_found_and_allowed(tmp_path: Path) -> None:
    files = jpegs(3)
    location = write_bundle(tmp_path, files)
    write_table(location, files | {"scene1.jpg": files["scene2.jpg"]})
    with pytest.raises(PatchDMError) as error:
        fetch_all("bundled", location, tmp_path / "target")
    message = str(error.value)
    assert "bundle.zip/scenes/scene1.jpg: found sha256 " in message
    assert sources.hashlib.sha256(files["scene1.jpg"]).hexdigest() in message
    assert sources.hashlib.sha256(files["scene2.jpg"]).hexdigest() in message


def test_surplus_missing_and_twofold_files_are_named(tmp_path: Path) -> None:
    files = jpegs(3)
    location = write_bundle(tmp_path, files)
    write_table(location, jpegs(2))
    with pytest.raises(PatchDMError, match=r"found scene2\.jpg, which is not in .*bundle\.csv"):
        fetch_all("bundled", location, tmp_path / "target")

    write_table(location, jpegs(4))
    with pytest.raises(PatchDMError, match=r"bundle\.zip: scene3\.jpg is missing"):
        fetch_all("bundled", location, tmp_path / "target")

    archive_of(location, {"a/scene0.jpg": b"1", "b/scene0.jpg": b"2"})
    with pytest.raises(PatchDMError, match=r"found two files named scene0\.jpg, allowed is one"):
        fetch_all("bundled", location, tmp_path / "target")


def test_flipped_bit_of_an_archive_is_found(tmp_path: Path) -> None:
    location = write_bundle(tmp_path, jpegs(2))
    damaged = bytearray(location.read_bytes())
    damaged[len(damaged) // 4] ^= 1
    location.write_bytes(damaged)
    with pytest.raises(PatchDMError, match=r"bundle\.zip/scenes/scene0\.jpg: cannot be read"):
        fetch_all("bundled", location, tmp_path / "target")


def test_encrypted_members_are_named(tmp_path: Path) -> None:
    location = write_bundle(tmp_path, jpegs(1))
    content = bytearray(location.read_bytes())
    content[6] |= 1  # general purpose flags: encrypted, in the local header
    content[content.index(b"PK\x01\x02") + 8] |= 1  # and in the directory
    location.write_bytes(content)
    with pytest.raises(PatchDMError, match=r"scene0\.jpg: cannot be read: .*encrypted"):
        fetch_all("bundled", location, tmp_path / "target")


def test_zip_bombs_are_stopped_at_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "MAX_BYTES", 3_000_000)
    location, bomb = tmp_path / "bundle.zip", bytes(50_000_000)
    with zipfile.ZipFile(location, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("scene0.jpg", bomb)
    write_table(location, {"scene0.jpg": bomb})
    with pytest.raises(PatchDMError, match=r"scene0\.jpg: found more than 3000000 bytes"):
        fetch_all("bundled", location, tmp_path / "target")
    assert (tmp_path / "target/scene0.jpg").stat().st_size <= 3_000_000


@pytest.mark.parametrize(
    ("table", "found"),
    [
        (b"", "no readable CSV"),
        (b"\xff\xfe\x00", "no readable CSV"),
        (b"file,licence\n", "found .'file', 'licence'., allowed are the columns"),
        (b"file,origin,licence,sha256\na.jpg,here\n", "found .'a.jpg', 'here'., allowed"),
        (b"file,origin,licence,sha256\na.jpg,x,y,abc\n", "a.jpg has sha256 'abc', allowed: 64"),
        (
            b"file,origin,licence,sha256\n" + 2 * (b"a.jpg,x,y," + b"0" * 64 + b"\n"),
            "a.jpg is listed twice",
        ),
    ],
)
def test_bad_tables_are_named(tmp_path: Path, table: bytes, found: str) -> None:
    location = write_bundle(tmp_path, jpegs(1))
    location.with_suffix(".csv").write_bytes(table)
    with pytest.raises(PatchDMError, match=rf"bundle\.csv: {found}"), bundled(location):
        pass


def test_missing_archives_and_tables_are_named(tmp_path: Path) -> None:
    location = write_bundle(tmp_path, jpegs(1))
    location.write_bytes(location.read_bytes()[:-5])
    with pytest.raises(PatchDMError, match=r"bundle\.zip: no readable zip"), bundled(location):
        pass
    location.unlink()
    with pytest.raises(PatchDMError, match=r"bundle\.zip: no readable zip"), bundled(location):
        pass
    location.with_suffix(".csv").unlink()
    with pytest.raises(PatchDMError, match=r"bundle\.csv: no readable CSV"), bundled(location):
        pass


def test_folder_finds_every_image_below_it(tmp_path: Path) -> None:
    files = {
        "b.JPG": encoded(photograph(0)),
        "deep/er/a.png": encoded(photograph(1), "PNG"),
        "deep/a.webp": encoded(photograph(2), "WEBP"),
    }
    location = write_folder(tmp_path / "mine", files | {"notes.txt": b"not an image"})
    (location / "deep/lost.jpg").symlink_to(location / "nowhere.jpg")
    os.mkfifo(location / "pipe.jpg")  # opening it would wait for ever
    photographs = fetch_all("folder", location, tmp_path / "target")
    assert [photograph.image for photograph in photographs] == sorted(files)
    assert contents(tmp_path / "target") == files


def test_folders_without_images_are_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(PatchDMError, match="found no image, allowed are"), folder(tmp_path):
        pass
    with pytest.raises(PatchDMError, match=r"notes\.txt: data\.location is no folder"):
        fetch_all("folder", tmp_path / "notes.txt", tmp_path / "target")


def test_bad_images_are_named_by_where_they_come_from(tmp_path: Path) -> None:
    good = jpegs(2)
    location = write_folder(tmp_path / "mine", good | {"scene1.jpg": good["scene1.jpg"][:-900]})
    with pytest.raises(PatchDMError, match=r"mine/scene1\.jpg: damaged image: .*[Tt]runcated"):
        fetch_all("folder", location, tmp_path / "target")
    (location / "scene1.jpg").write_text("404 Not Found")
    with pytest.raises(PatchDMError, match=r"mine/scene1\.jpg: found no image, allowed are JPEG"):
        fetch_all("folder", location, tmp_path / "target")


def test_vanished_files_are_named(tmp_path: Path) -> None:
    location = write_folder(tmp_path / "mine", jpegs(2))
    with folder(location) as items:
        (location / "scene1.jpg").unlink()
        with pytest.raises(PatchDMError, match=r"mine/scene1\.jpg: cannot be read: .*No such file"):
            fetch(items[1], tmp_path / "target")


def test_unreadable_manifests_are_named(tmp_path: Path) -> None:
    with pytest.raises(PatchDMError, match=r"manifest\.parquet: cannot be read"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.parquet").write_bytes(b"PAR1" + bytes(40))
    with pytest.raises(PatchDMError, match=r"manifest\.parquet: cannot be read"):
        read_manifest(tmp_path)


def test_fetch_does_not_hold_a_file_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    class Stream(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            chunk = super().read(size)
            sizes.append(len(chunk))
            return chunk

    monkeypatch.setattr(sources, "_CHUNK", 1000)
    content = encoded(photograph(5))
    item = sources.Item("a.jpg", "here", lambda: Stream(content), "here", "mine", None)
    assert fetch(item, tmp_path).bytes == len(content) == sum(sizes)
    assert max(sizes) == 1000
