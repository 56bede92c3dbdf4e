"""The stage download: photographs in, data/raw/ out, or nothing at all."""

from __future__ import annotations

import errno
import hashlib
import shutil
from pathlib import Path

import pandas as pd
import pytest

from patchdm.errors import PatchDMError
from patchdm.fetch import fetch
from stages._common import RAW
from stages.download import download
from tests.photographs import contents, data_params, jpegs, write_bundle, write_folder


@pytest.mark.parametrize("source", ["bundled", "folder"])
def test_download_writes_photographs_and_manifest(tmp_dir: Path, source: str) -> None:
    files = jpegs(4)
    write = write_bundle if source == "bundled" else write_folder
    download(data_params(source=source, location=str(write(tmp_dir / "mine", files))))

    found = contents(RAW)
    manifest = pd.read_parquet(RAW / "manifest.parquet")
    del found["manifest.parquet"], found["outcomes.parquet"]
    assert found == files
    assert list(manifest.columns) == ["image", "source", "licence", "sha256", "bytes"]
    assert manifest["image"].tolist() == list(files)
    assert manifest["bytes"].tolist() == [len(content) for content in files.values()]
    assert manifest["sha256"].tolist() == [
        hashlib.sha256(content).hexdigest() for content in files.values()
    ]
    origin = {"bundled": "example.org", "folder": "scene0.jpg"}[source]
    licence = {"bundled": "public domain", "folder": "unknown"}[source]
    assert manifest.loc[0, ["source", "licence"]].tolist() == [origin, licence]


def test_two_runs_give_the_same_bytes(tmp_dir: Path) -> None:
    params = data_params(source="bundled", location=str(write_bundle(tmp_dir, jpegs(3))))
    download(params)
    first = contents(RAW)
    download(params)
    assert contents(RAW) == first


def test_remains_of_a_killed_run_are_replaced(tmp_dir: Path) -> None:
    params = data_params(source="folder", location=str(write_folder(tmp_dir / "mine", jpegs(3))))
    download(params)
    first = contents(RAW)
    write_folder(RAW.parent / ".raw.partial", {"half.jpg": b"half", "scene0.jpg": b"half"})
    download(params)
    assert contents(RAW) == first
    assert sorted(path.name for path in RAW.parent.iterdir()) == ["raw"]


def test_a_bad_file_leaves_the_old_output(tmp_dir: Path) -> None:
    location = write_folder(tmp_dir / "mine", jpegs(3))
    params = data_params(source="folder", location=str(location))
    download(params)
    first = contents(RAW)
    (location / "scene2.jpg").write_text("404 Not Found")
    with pytest.raises(PatchDMError, match=r"scene2\.jpg: found no image"):
        download(params)
    assert contents(RAW) == first
    assert sorted(path.name for path in RAW.parent.iterdir()) == ["raw"]


def test_full_disk_leaves_nothing_and_names_the_folder(
    tmp_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def place_on_full_disk(file: Path, target: Path) -> None:
        if target.name == "scene2.jpg":
            target.symlink_to("/dev/full")  # whose writes fail for real
        shutil.copyfile(file, target)

    monkeypatch.setattr(fetch, "_place", place_on_full_disk)
    location = write_folder(tmp_dir / "mine", jpegs(3))
    with pytest.raises(OSError, match="No space left") as error:
        download(data_params(source="folder", location=str(location)))
    assert error.value.errno == errno.ENOSPC
    assert error.value.filename == "data/raw"
    assert list(RAW.parent.iterdir()) == []


def test_nothing_is_kept_twice_when_all_is_there(tmp_dir: Path) -> None:
    download(data_params(source="folder", location=str(write_folder(tmp_dir / "mine", jpegs(2)))))
    files = (path for path in Path(".state/download").rglob("*") if path.is_file())
    assert [path.name for path in files] == ["lock"]
    assert {path.stat().st_nlink for path in RAW.iterdir()} == {1}


def test_left_out_photographs_are_counted(
    tmp_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    location = write_folder(tmp_dir / "mine", jpegs(3) | {"scene1.jpg": b"404"})
    params = data_params(source="folder", location=str(location), damaged_fraction=0.5)
    download(params)
    line = "warning: 1 of 3 photographs left out, data/raw/outcomes.parquet says why"
    assert line in " ".join(capsys.readouterr().err.split())
