"""The stage extract_patches: photographs in, patch store out, whatever happens on the way."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from patchdm.config import Params
from patchdm.errors import PatchDMError
from patchdm.extract import extract, store_writer
from patchdm.files import sha256
from patchdm.formats.images import fit, read_image
from patchdm.formats.patch_store import PatchStore
from stages._common import PATCHES, RAW, STATE
from stages.extract_patches import extract_patches
from tests.photographs import (
    ROOT,
    contents,
    data_params,
    encoded,
    jpegs,
    photograph,
)
from tests.stores import write_raw

TABLES = ["SHA256SUMS", "duplicates.csv", "enlarged.csv", "index.parquet", "quarantine.csv"]


@pytest.fixture
def params(tmp_dir: Path) -> Params:
    """Parameters of a run whose data/raw/ holds ten photographs."""
    write_raw(tmp_dir / RAW, jpegs(10))
    return data_params(flips=True, workers=1)


def changed(params: Params, **data: object) -> Params:
    machine = {"workers": data.pop("workers", params.machine.workers)}
    return params.model_copy(
        update={
            "data": params.data.model_copy(update=data),
            "machine": params.machine.model_copy(update=machine),
        }
    )


def test_store_holds_every_photograph_and_mirror_image(params: Params) -> None:
    extract_patches(params)
    store = PatchStore(PATCHES)
    assert (store.height, store.width, len(store)) == (32, 64, 8 * 2 + 2)
    assert store.rows("train").tolist() == list(range(16))
    assert store.rows("test").tolist() == [16, 17]
    for row in store.index.itertuples():
        expected = fit(read_image(RAW / row.source), 64, 32)
        if row.flipped:
            expected = expected[:, ::-1]
        np.testing.assert_array_equal(store.images([row.image])[0], expected)
    train, test = (store.index.loc[store.rows(split), "source"] for split in ("train", "test"))
    assert not set(train) & set(test)


def test_index_says_where_photographs_are_from(params: Params) -> None:
    extract_patches(params)
    index = PatchStore(PATCHES).index.set_index("source")
    manifest = pd.read_parquet(RAW / "manifest.parquet").set_index("image").loc[index.index]
    assert index["original_sha256"].tolist() == manifest["sha256"].tolist()
    assert index["original_bytes"].tolist() == manifest["bytes"].tolist()
    assert index["origin"].tolist() == manifest["source"].tolist()
    assert set(index["licence"]) == {"unknown"}
    assert set(zip(index["original_width"], index["original_height"], strict=True)) == {(96, 48)}


@pytest.mark.usefixtures("params")
def test_without_flips_every_photograph_comes_once() -> None:
    extract_patches(data_params(flips=False, workers=1))
    index = PatchStore(PATCHES).index
    assert sorted(index["source"]) == sorted(jpegs(10))
    assert not index["flipped"].any()
    assert index["sha256"].is_unique


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("batch_images", [2, 3])
def test_bytes_do_not_depend_on_workers_batches_and_runs(
    params: Params, monkeypatch: pytest.MonkeyPatch, batch_images: int, views: int
) -> None:
    params = changed(params, views=views)
    extract_patches(params)
    first = contents(PATCHES)
    extract_patches(params)
    assert contents(PATCHES) == first
    monkeypatch.setattr(extract, "BATCH_BYTES", batch_images * 32 * 64 * 3)
    for workers in (1, 3):
        extract_patches(changed(params, workers=workers))
        assert contents(PATCHES) == first
    assert not any(path.name == "store" for path in STATE.rglob("*"))


def test_size_change_replaces_the_whole_store(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(store_writer, "SHARD_BYTES", 32 * 64 * 3)
        extract_patches(params)
    assert len(contents(PATCHES)) == 18 + len(TABLES)
    extract_patches(data_params(width=32, height=48, workers=1))
    assert sorted(contents(PATCHES)) == sorted([*TABLES, "images-00000.npy"])
    assert PatchStore(PATCHES).images([0]).shape == (1, 48, 32, 3)


@pytest.mark.parametrize("workers", [1, 2])
def test_damaged_photographs_go_to_quarantine_and_move_no_other(
    params: Params, workers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    params = changed(params, test_fraction=0.3)
    extract_patches(params)
    before = PatchStore(PATCHES).index
    train, test = (before.loc[before["split"] == split, "source"].iloc[-1] for split in TRAIN_TEST)
    (RAW / train).write_bytes((RAW / train).read_bytes()[:-900])
    (RAW / test).unlink()
    params = changed(params, workers=workers, damaged_fraction=0.2)

    extract_patches(params)

    quarantine = pd.read_csv(PATCHES / "quarantine.csv").set_index("source")["reason"]
    assert set(quarantine.index) == {train, test}
    assert "found sha256" in quarantine[train]
    assert quarantine[test] == f"data/raw/{test}: cannot be read: No such file or directory"
    assert "quarantine.csv: found 2 photographs" in "".join(capsys.readouterr().err.split("\n"))
    after = PatchStore(PATCHES)
    left = before[~before["source"].isin([train, test])]
    for name in ("source", "flipped", "split", "sha256"):
        assert after.index[name].tolist() == left[name].tolist()
    assert len(after) == 17 - 3


TRAIN_TEST = ("train", "test")


def test_too_few_photographs_are_refused_before_any_is_read(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.extract_patches.extract", lambda *_a, **_o: pytest.fail("read"))
    few = params.model_copy(update={"train": params.train.model_copy(update={"batch_size": 17})})
    with pytest.raises(PatchDMError, match="train.batch_size is 17: found 16 training images"):
        extract_patches(few)
    with pytest.raises(PatchDMError, match="data.test_fraction is 0.1: found 1 held-out images"):
        extract_patches(changed(params, test_fraction=0.1))
    assert not STATE.exists()


def test_photographs_that_are_too_few_without_the_damaged_are_refused(params: Params) -> None:
    held_out = min(RAW.glob("*.jpg"), key=sha256)
    held_out.write_bytes(b"damaged")
    with pytest.raises(PatchDMError, match="found 1 held-out images, expected 2 or more"):
        extract_patches(changed(params, damaged_fraction=0.2))
    assert not PATCHES.exists()


def test_too_many_damaged_photographs_are_an_error_until_they_are_mended(params: Params) -> None:
    extract_patches(params)
    first = contents(PATCHES)
    index = PatchStore(PATCHES).index
    names = sorted(set(index.loc[index["split"] == "train", "source"]))[3:5]
    whole = {name: (RAW / name).read_bytes() for name in names}
    for name in names:
        (RAW / name).write_bytes(b"<html>")
    message = (
        r"^data/raw: found 2 damaged of 10 photographs, expected data\.damaged_fraction = 0\.1 "
        rf"of them; the first: data/raw/{names[0]}: found sha256 "
    )
    for _ in range(2):
        with pytest.raises(PatchDMError, match=message):
            extract_patches(changed(params, damaged_fraction=0.1))
    assert contents(PATCHES) == first
    for name in names:
        (RAW / name).write_bytes(whole[name])
    extract_patches(changed(params, damaged_fraction=0.1))
    assert contents(PATCHES) == first


def test_a_split_must_not_get_lost(params: Params) -> None:
    extract_patches(params)
    index = PatchStore(PATCHES).index
    for name in index.loc[index["split"] == "test", "source"]:
        (RAW / name).unlink()
    with pytest.raises(PatchDMError, match="data/raw: every test photograph is damaged"):
        extract_patches(changed(params, damaged_fraction=0.9))


@pytest.mark.usefixtures("tmp_dir")
def test_images_that_are_no_images_are_damaged_though_the_manifest_knows_them() -> None:
    write_raw(RAW, jpegs(8) | {"scene2.jpg": b"GIF89a"})
    extract_patches(data_params(workers=1, test_fraction=0.4, damaged_fraction=0.3))
    quarantine = pd.read_csv(PATCHES / "quarantine.csv")
    (reason,) = quarantine["reason"]
    assert reason.startswith(
        "data/raw/scene2.jpg: found no image, it begins with 'GIF89a'; expected JPEG, PNG, "
    )


@pytest.mark.usefixtures("tmp_dir")
def test_lookalikes_and_small_photographs_are_reported() -> None:
    files = jpegs(6) | {
        "again.jpg": encoded(photograph(2, 192, 96)[::2, ::2]),
        "same.png": encoded(photograph(4), "PNG"),
        "tiny.png": encoded(photograph(9, 60, 30), "PNG"),
    }
    small = jpegs(1)["scene0.jpg"]
    files["zcopy.jpg"] = small
    write_raw(RAW, files)
    extract_patches(data_params(workers=1))
    table = pd.read_csv(PATCHES / "duplicates.csv")
    pairs = {frozenset(pair) for pair in zip(table["source"], table["like"], strict=True)}
    assert pairs == {frozenset({"scene4.jpg", "same.png"}), frozenset({"scene0.jpg", "zcopy.jpg"})}
    split = PatchStore(PATCHES).index.set_index("source")["split"]
    assert table["split"].tolist() == split[table["source"]].tolist()
    assert table["like_split"].tolist() == split[table["like"]].tolist()
    enlarged = pd.read_csv(PATCHES / "enlarged.csv")
    assert enlarged.to_numpy().tolist() == [["tiny.png", 60, 30]]


def test_missing_manifest_is_named(params: Params) -> None:
    shutil.rmtree(RAW)
    with pytest.raises(PatchDMError, match=r"data/raw/manifest\.parquet: cannot be read"):
        extract_patches(params)


@pytest.mark.usefixtures("params")
def test_too_few_photographs_are_an_error() -> None:
    with pytest.raises(PatchDMError, match="0.95 of 10 photographs leaves none for training"):
        extract_patches(data_params(test_fraction=0.95))
    assert not PATCHES.exists()


def test_full_disk_leaves_nothing_in_data(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_writer, "_shard_path", lambda *_: Path("/dev/full"))
    with pytest.raises(OSError, match="No space left") as error:
        extract_patches(params)
    assert error.value.errno == errno.ENOSPC
    assert sorted(path.name for path in PATCHES.parent.iterdir()) == ["raw"]


def many_photographs(copies: int) -> Params:
    """Bring in photographs, so many of each of ten; some are damaged."""
    write_raw(RAW, {f"{k}/{name}": data for k in range(copies) for name, data in jpegs(10).items()})
    for k in range(0, copies, 7):
        (RAW / f"{k}/scene3.jpg").write_bytes(b"damaged")
    # Larger images make smaller batches: more moments to go on from.
    params = data_params(flips=True, damaged_fraction=0.2, workers=1, width=256, height=128)
    large = params.applications.model_copy(update={"large_width": 256, "large_height": 128})
    return params.model_copy(update={"applications": large})


def noted() -> int:
    """Return how many rows of the layout are done with."""
    logs = STATE.rglob("records.bin")
    return sum(path.stat().st_size for path in logs) // store_writer.RECORD.itemsize


def kill_after(rows: int, params: Params) -> None:
    """Run the stage until so many more rows are done with, kill it; its workers die with it."""
    rows += noted()
    YAML().dump(params.model_dump(), Path("params.yaml"))
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.extract_patches"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while noted() < rows and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    workers = descendants(process.pid)
    process.kill()
    process.wait()
    assert len(workers) >= params.machine.workers - 1
    gone = time.monotonic() + 60  # a busy machine takes its time
    while any(map(alive, workers)) and time.monotonic() < gone:
        time.sleep(0.02)
    assert not any(map(alive, workers))


def descendants(pid: int) -> list[int]:
    pids = [pid]
    for parent in pids:
        for thread in Path(f"/proc/{parent}/task").glob("*/children"):
            pids += [int(child) for child in thread.read_text().split()]
    return pids[1:]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.usefixtures("tmp_dir")
@pytest.mark.parametrize(
    ("workers", "copies"),
    [([1, 2], 60), pytest.param([1, 2, 3, 2, 1, 2, 3, 2, 1, 2], 200, marks=pytest.mark.slow)],
    ids=["2 kills", "10 kills"],
)
def test_killed_runs_go_on_where_they_stopped_and_end_in_the_same_bytes(
    workers: list[int], copies: int
) -> None:
    params = many_photographs(copies)
    rows = copies * 10 * 9 // 5
    draw = random.Random(0)
    for count in workers:
        before = noted()
        kill_after(draw.randint(1, rows // len(workers) // 2), changed(params, workers=count))
        assert before < noted() < rows
        assert not PATCHES.exists()
    extract_patches(params)
    resumed = contents(PATCHES)
    assert len(pd.read_csv(PATCHES / "quarantine.csv")) == -(-copies // 7)
    assert noted() == 0
    shutil.rmtree(PATCHES)
    extract_patches(params)
    assert contents(PATCHES) == resumed
