"""What a source has on this machine: any change shows, and nothing is read for it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from patchdm.fetch.local import look
from tests.photographs import data_params


@pytest.fixture
def folder(tmp_dir: Path) -> Path:
    """A folder of two files, one of them in a folder that is linked."""
    (tmp_dir / "mine").mkdir()
    (tmp_dir / "elsewhere").mkdir()
    (tmp_dir / "mine/a.jpg").write_bytes(b"a")
    (tmp_dir / "elsewhere/b.jpg").write_bytes(b"b")
    (tmp_dir / "mine/linked").symlink_to(tmp_dir / "elsewhere")
    (tmp_dir / "mine/loop").symlink_to(tmp_dir / "mine")
    (tmp_dir / "mine/dangling").symlink_to(tmp_dir / "nowhere")
    return tmp_dir / "mine"


def seen(source: str, location: str) -> str:
    return look(data_params(source=source, location=location).data)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "c.jpg").write_bytes(b"c"),
        lambda folder: (folder / "a.jpg").unlink(),
        lambda folder: (folder / "a.jpg").rename(folder / "c.jpg"),
        lambda folder: (folder / "a.jpg").write_bytes(b"aa"),
        lambda folder: os.utime(folder / "a.jpg", (1, 1)),
        lambda folder: (folder / "linked/c.jpg").write_bytes(b"c"),
    ],
    ids=["added", "removed", "renamed", "longer", "touched", "added in a link"],
)
def test_a_folder_that_changed_is_another(folder: Path, change: Callable[[Path], None]):
    before = seen("folder", "mine")
    assert seen("folder", "mine") == before
    change(folder)
    assert seen("folder", "mine") != before


def test_files_are_counted_once(folder: Path):
    assert '"files": 2,\n  "bytes": 2,' in seen("folder", str(folder))


def test_a_file_is_known_by_its_bytes(tmp_dir: Path):
    (tmp_dir / "a.zip").write_bytes(b"archive")
    before = seen("archive", "a.zip")
    os.utime("a.zip", (1, 1))  # as in another clone
    assert seen("archive", "a.zip") == before
    (tmp_dir / "a.zip").write_bytes(b"another")
    assert seen("archive", "a.zip") != before


def test_the_table_next_to_an_archive_counts(tmp_dir: Path):
    (tmp_dir / "a.zip").write_bytes(b"archive")
    before = seen("bundled", "a.zip")
    (tmp_dir / "a.csv").write_text("file\n")
    assert seen("bundled", "a.zip") != before


@pytest.mark.usefixtures("tmp_dir")
def test_what_is_elsewhere_or_missing_has_no_files():
    assert seen("hub", "owner/name") == seen("s3", "s3://bucket/prefix")
    assert seen("archive", "https://example.org/a.zip") == seen("folder", "not/there")


def test_a_moved_folder_is_the_same(folder: Path):
    before = seen("folder", "mine")
    shutil.move(folder, folder.with_name("yours"))
    assert seen("folder", "yours") == before
