"""Shards of samples: complete and equal whatever came between, and readable one by one."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from patchdm.errors import PatchDMError
from patchdm.files import sha256
from patchdm.formats.shards import read_image, read_images, read_manifest
from tests.sampling.drawing import SETTINGS, draw, pngs, published, write

FORMATS = ["png", "webdataset"]


def test_a_shard_is_a_folder_of_png(tmp_path: Path):
    assert write(tmp_path, seeds=range(999_998, 1_000_005))
    shards = {"999998": range(999_998, 1_000_003), "1000003": range(1_000_003, 1_000_005)}
    names = {f"{shard}/{seed:06d}.png" for shard, seeds in shards.items() for seed in seeds}
    assert published(tmp_path).keys() == names | {"manifest.parquet", "samples.json"}
    assert json.loads((tmp_path / "samples.json").read_text()) == SETTINGS
    manifest = pd.read_parquet(tmp_path / "manifest.parquet")
    assert manifest.columns.tolist() == ["seed", "shard", "file", "sha256"]
    assert manifest["seed"].tolist() == list(range(999_998, 1_000_005))
    for row in manifest.itertuples():
        assert row.sha256 == sha256(tmp_path / row.shard / row.file)


def test_a_shard_is_a_tar_for_webdataset(tmp_path: Path):
    for name in ("tar", "again"):
        assert write(tmp_path / name, format="webdataset")
    write(tmp_path / "png")
    assert published(tmp_path / "tar") == published(tmp_path / "again")
    assert {p.name for p in (tmp_path / "tar").glob("*.tar")} == {
        "000000.tar", "000005.tar", "000010.tar"
    }  # fmt: skip
    with tarfile.open(tmp_path / "tar/000010.tar") as tar:
        members = tar.getmembers()
        assert [m.name for m in members] == [
            "000010.png", "000010.json", "000011.png", "000011.json"
        ]  # fmt: skip
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, 0, "", "")}
        assert json.load(tar.extractfile("000011.json")) == {"seed": 11}
    assert pngs(tmp_path / "tar") == pngs(tmp_path / "png")
    manifest = pd.read_parquet(tmp_path / "tar/manifest.parquet")
    hashes = {seed: hashlib.sha256(png).hexdigest() for seed, png in pngs(tmp_path / "tar").items()}
    assert dict(zip(manifest["seed"], manifest["sha256"], strict=True)) == hashes


@pytest.mark.parametrize("changes", [{"shard_size": 12}, {"shard_size": 2, "batch_size": 9}])
def test_images_are_the_same_in_any_shards_and_batches(tmp_path: Path, changes: dict[str, int]):
    write(tmp_path / "a")
    write(tmp_path / "b", **changes)
    assert pngs(tmp_path / "a") == pngs(tmp_path / "b")


@pytest.mark.parametrize("format_", FORMATS)
def test_images_are_read_back(tmp_path: Path, format_: str):
    write(tmp_path, format=format_)
    seeds, images = zip(*read_images(tmp_path), strict=True)
    assert seeds == tuple(range(12))
    np.testing.assert_array_equal(np.stack(images), draw(range(12)))
    some = [11, 0, 4, 4, 7]
    seeds, images = zip(*read_images(tmp_path, some), strict=True)
    assert seeds == tuple(some)
    np.testing.assert_array_equal(np.stack(images), draw(some))
    np.testing.assert_array_equal(read_image(tmp_path, 9), draw([9])[0])
    assert read_manifest(tmp_path)["seed"].tolist() == list(range(12))


@pytest.mark.parametrize(
    ("format_", "damage", "message"),
    [
        ("png", lambda out: (out / "000005/000007.png").unlink(), "000005/000007.png: not found"),
        ("png", lambda out: cut(out / "000005/000007.png", 99), "000005/000007.png: damaged image"),
        ("png", lambda out: shutil.rmtree(out / "000005"), "000005/000005.png: not found"),
        ("webdataset", lambda out: (out / "000005.tar").unlink(), "000005.tar: not found"),
        ("webdataset", lambda out: cut(out / "000005.tar", 12000), "000005.tar: "),
        ("webdataset", lambda out: (out / "000005.tar").write_text("text"), "damaged tar file"),
        ("png", lambda out: (out / "manifest.parquet").unlink(), "manifest.parquet: not found"),
        ("png", lambda out: cut(out / "manifest.parquet"), "not a table of seed, shard, file"),
    ],
)
def test_reading_what_is_damaged_says_so_in_one_line(
    tmp_path: Path, format_: str, damage: Callable[[Path], None], message: str
):
    write(tmp_path, format=format_)
    damage(tmp_path)
    with pytest.raises(PatchDMError, match=message) as error:
        list(read_images(tmp_path))
    assert "\n" not in str(error.value)


def test_a_seed_that_is_not_there(tmp_path: Path):
    write(tmp_path)
    with pytest.raises(PatchDMError, match="manifest.parquet: found no seed 12"):
        read_image(tmp_path, 12)


def cut(path: Path, much: int = 20) -> None:
    path.write_bytes(path.read_bytes()[:-much])
