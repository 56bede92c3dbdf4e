"""Folders and archives as people have them: systems' own files, links, other kinds of files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from patchdm.errors import PatchDMError
from patchdm.fetch.names import PassedOver, is_system
from patchdm.fetch.sources import count, open_source
from patchdm.fetch.sources.folder import _Walk
from patchdm.fetch.sources.listing import Workspace
from stages.download import download
from tests.fetch.arriving import arrive, data_section, silent
from tests.fetch.packs import PACKERS, add_hub
from tests.fetch.server import Site
from tests.photographs import data_params, encoded, jpegs, photograph, write_folder

GOOD = jpegs(3)
PHOTO = GOOD["scene0.jpg"]
SYSTEM = [
    "__MACOSX/Photos/._scene0.jpg", "._scene0.jpg", "sea/._scene1.JPG", ".hidden.jpg",
    ".thumbnails/1.jpg", "DCIM/.thumbnails/deep/1.jpg", ".trashed-1700000000-IMG_9.jpg",
    "@eaDir/scene0.jpg/SYNOPHOTO_THUMB_XL.jpg", "#recycle/old.jpg", "@Recycle/old.png",
    "$RECYCLE.BIN/S-1-5/$R1.jpg", "System Volume Information/x.jpg", "RECYCLER/x.jpg",
    "sea/.@__thumb/default_scene0.jpg", ".Trash-1000/files/x.jpg", "lost+found/x.jpg",
    ".git/x.jpg", "LOST.DIR/x.jpg", ".DS_Store", "Thumbs.db", "desktop.ini",
]  # fmt: skip
OURS = ["eaDir/a.jpg", "macosx/a.jpg", "recycle/a.jpg", "#sunset/a.jpg", "@home/a.jpg", "a.b/a.jpg"]


def passed_over(source: str, location: Path | str, state: Path, **data: object) -> str:
    """Return what a source says that it does not take."""
    workspace = Workspace(Path(), state, 2, silent)
    with open_source(data_section(source, location, **data), workspace) as listing:
        return listing.passed_over


@pytest.mark.parametrize("name", SYSTEM)
def test_what_a_system_keeps_for_itself_is_known(name: str) -> None:
    assert is_system(name)
    assert is_system(f"./{name}")


@pytest.mark.parametrize("name", [*OURS, "../a.jpg", "./a.jpg", "/a.jpg", "a..jpg"])
def test_what_merely_looks_like_it_is_not(name: str) -> None:
    assert not is_system(name)


@pytest.mark.parametrize("kind", ["folder", *PACKERS])
def test_systems_files_are_passed_over_and_counted(tmp_path: Path, kind: str) -> None:
    good = GOOD | dict.fromkeys(OURS, PHOTO)
    files = good | dict.fromkeys(SYSTEM, b"no image") | {"a.CR2": b"", "b.cr2": b"", "README": b""}
    if kind == "folder":
        source, location = "folder", write_folder(tmp_path / "mine", files)
    else:
        source, location = "archive", tmp_path / "mine"
        location.write_bytes(PACKERS[kind](files))
    assert arrive(tmp_path / "target", source, location).files == good
    assert count(data_section(source, location)) == len(good)
    assert passed_over(source, location, tmp_path / "state") == (
        f"passed over {len(SYSTEM) + 3} files: 2 .cr2, 1 without a known suffix, "
        f"{len(SYSTEM)} of a system's own, as hidden files and thumbnails are"
    )


def test_a_data_set_of_the_hub_is_read_the_same_way(tmp_path: Path, site: Site) -> None:
    add_hub(site, "me/sea", GOOD | {".gitattributes": b"x", "._a.jpg": b"x", "a.gif": b"x"})
    found = passed_over("hub", "me/sea", tmp_path / "state", endpoint=site.url)
    assert found.startswith("passed over 3 files: 1 .gif, 2 of a system's own")


def test_the_stage_says_it_in_one_line(tmp_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    name = "a folder with a long name, as they are" * 3
    write_folder(tmp_dir / name, GOOD | dict.fromkeys(SYSTEM, b"x") | {"a.gif": b"x"})
    download(data_params(source="folder", location=name))
    lines = [line for line in capfd.readouterr().err.splitlines() if "warning" in line]
    system = f"{len(SYSTEM)} of a system's own, as hidden files and thumbnails are"
    total = len(SYSTEM) + 1
    assert lines == [f"warning: {name}: passed over {total} files: 1 .gif, {system}"]


@pytest.mark.parametrize("source", ["folder", "archive"])
def test_sources_without_photographs_say_what_there_is(tmp_path: Path, source: str) -> None:
    files = {"a.gif": b"x", "b.gif": b"x", "._c.jpg": b"x"}
    location = write_folder(tmp_path / "mine", files)
    if source == "archive":
        location = tmp_path / "mine.zip"
        location.write_bytes(PACKERS["zip"](files))
    with pytest.raises(PatchDMError, match="found no image.*, passed over 3 files: 2 .gif, 1 of a"):
        arrive(tmp_path / "target", source, location)


def test_a_line_stays_short_and_printable_whatever_files_are_called() -> None:
    found = PassedOver()
    for number in range(50):
        found.takes(f"a.kind{number}")
    for name in ("a.\x1b[2J", "b." + "x" * 5000, "c.jpg\0.gif", "d.\u2028", "e"):
        found.takes(name)
    assert str(found).isprintable()
    assert len(str(found)) < 300
    assert str(found).startswith("passed over 54 files: 1 .kind0, ")
    assert str(found).endswith(", 46 of other kinds")
    assert str(PassedOver()) == ""


def test_all_suffixes_of_photographs_are_taken(tmp_path: Path) -> None:
    jpeg = {f"{n}.{kind}": PHOTO for n, kind in enumerate(["jpg", "JPEG", "jpe", "JPE", "Jfif"])}
    other = {"a.TIF": encoded(photograph(1), "TIFF"), "a.tiff": encoded(photograph(2), "TIFF")}
    other["a.avif"] = encoded(photograph(3), "AVIF")
    location = write_folder(tmp_path / "mine", jpeg | other)
    assert set(arrive(tmp_path / "target", "folder", location).files) == {*jpeg, *other}


def linked(tmp_path: Path) -> Path:
    """Return a folder put together of links, with loops, to 6 photographs in three folders."""
    disk, location = tmp_path / "disk", tmp_path / "mine"
    names = ["2022/0.jpg", "2022/1.jpg", "2023/2.jpg", "2023/deep/3.jpg", "other/4.jpg"]
    write_folder(disk, {name: encoded(photograph(n)) for n, name in enumerate(names)})
    write_folder(location, {"5.jpg": encoded(photograph(5))})
    for link, target in {
        "2022": disk / "2022",
        "2022-again": disk / "2022",
        "2023": disk / "2023",
        "deep": disk / "2023/deep",
        "0-linked.jpg": disk / "2022/0.jpg",
        "4.jpg": disk / "other/4.jpg",
        "4-again.jpg": disk / "other/4.jpg",
        "here": location,
        ".hidden": disk / "other",
        "nowhere.jpg": disk / "nowhere.jpg",
        "self.jpg": location / "self.jpg",
        "relative.jpg": Path("5.jpg"),
    }.items():
        (location / link).symlink_to(target)
    (disk / "2022/up").symlink_to(disk)
    return location


def test_links_are_followed_and_no_photograph_comes_twice(tmp_path: Path) -> None:
    location = linked(tmp_path)
    raw = arrive(tmp_path / "target", "folder", location)
    assert list(raw.files) == [
        "2022/0.jpg", "2022/1.jpg", "2022/up/other/4.jpg", "2023/2.jpg", "2023/deep/3.jpg", "5.jpg"
    ]  # fmt: skip
    assert len({*raw.files.values()}) == 6
    assert count(data_section("folder", location)) == 6


def test_a_folder_that_is_a_link_itself_is_read_alike(tmp_path: Path) -> None:
    location = linked(tmp_path)
    (tmp_path / "link").symlink_to(location)
    expected = arrive(tmp_path / "target", "folder", location).files
    assert arrive(tmp_path / "other", "folder", tmp_path / "link").files == expected
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "all").symlink_to(tmp_path / "link")
    found = arrive(tmp_path / "third", "folder", alone).files
    assert found == {f"all/{name}": content for name, content in expected.items()}


def test_links_into_stores_by_content_are_taken(tmp_path: Path) -> None:
    """As git-annex, DVC and the hub's cache keep files: hidden, and without a suffix."""
    location = write_folder(
        tmp_path / "mine", {".annex/objects/ab12": PHOTO, ".annex/c.jpg": PHOTO}
    )
    (location / "sea.jpg").symlink_to(".annex/objects/ab12")
    (location / "lake.jpg").symlink_to(".annex/c.jpg")
    assert set(arrive(tmp_path / "target", "folder", location).files) == {"lake.jpg", "sea.jpg"}


def test_an_unreadable_folder_is_an_error_not_a_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = write_folder(
        tmp_path / "mine", GOOD | {"locked/a.jpg": PHOTO, ".Trash/b.jpg": PHOTO}
    )
    scandir = os.scandir

    def refusing(path: str) -> object:
        if os.fspath(path).endswith(locked):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    locked = "locked"
    with pytest.raises(PatchDMError, match="mine/locked: cannot be read: Permission denied"):
        list(_Walk(location, PassedOver()).photographs())
    locked = ".Trash"
    assert len(list(_Walk(location, PassedOver()).photographs())) == 4
