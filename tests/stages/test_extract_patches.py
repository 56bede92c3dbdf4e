"""The stage extract_patches: photographs in, patch store out, or nothing at all."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from patchdm.config import Params
from patchdm.data import patch_store
from patchdm.data.images import fit, read_image
from patchdm.data.patch_store import PatchStore
from patchdm.errors import PatchDMError
from stages._common import PATCHES, RAW
from stages.download import download
from stages.extract_patches import extract_patches
from tests.data.photographs import ROOT, contents, data_params, jpegs, write_folder


@pytest.fixture
def params(tmp_dir: Path) -> Params:
    """Parameters of a run whose data/raw/ holds ten photographs."""
    location = write_folder(tmp_dir / "mine", jpegs(10))
    params = data_params(source="folder", location=str(location), flips=True)
    download(params)
    return params


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


@pytest.mark.usefixtures("params")
def test_without_flips_every_photograph_comes_once() -> None:
    extract_patches(data_params(flips=False))
    index = PatchStore(PATCHES).index
    assert sorted(index["source"]) == sorted(jpegs(10))
    assert not index["flipped"].any()
    assert index["sha256"].is_unique


def test_two_runs_give_the_same_bytes(params: Params) -> None:
    extract_patches(params)
    first = contents(PATCHES)
    extract_patches(params)
    assert contents(PATCHES) == first


def test_size_change_replaces_the_whole_store(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(patch_store, "SHARD_BYTES", 32 * 64 * 3)
        extract_patches(params)
    assert len(contents(PATCHES)) == 18 + 1
    extract_patches(data_params(width=32, height=48))
    assert sorted(contents(PATCHES)) == ["images-00000.npy", "index.parquet"]
    assert PatchStore(PATCHES).images([0]).shape == (1, 48, 32, 3)


def test_missing_and_damaged_photographs_are_named(params: Params) -> None:
    extract_patches(params)
    first = contents(PATCHES)
    whole = (RAW / "scene4.jpg").read_bytes()
    (RAW / "scene4.jpg").write_bytes(whole[:-900])
    with pytest.raises(PatchDMError, match=r"data/raw/scene4\.jpg: damaged image"):
        extract_patches(params)
    (RAW / "scene4.jpg").unlink()
    with pytest.raises(PatchDMError, match=r"data/raw/scene4\.jpg: not found"):
        extract_patches(params)
    assert contents(PATCHES) == first
    shutil.rmtree(RAW)
    with pytest.raises(PatchDMError, match=r"data/raw/manifest\.parquet: cannot be read"):
        extract_patches(params)


@pytest.mark.usefixtures("params")
def test_too_few_photographs_are_an_error() -> None:
    with pytest.raises(PatchDMError, match="0.95 of 10 photographs leaves none for training"):
        extract_patches(data_params(test_fraction=0.95))
    assert not PATCHES.exists()


def test_full_disk_leaves_nothing_and_names_the_folder(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patch_store, "_shard_path", lambda *_: Path("/dev/full"))
    with pytest.raises(OSError, match="No space left") as error:
        extract_patches(params)
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, "data/patches")
    assert sorted(path.name for path in PATCHES.parent.iterdir()) == ["raw"]


def test_killed_run_leaves_nothing_and_the_next_gives_the_same_bytes(tmp_dir: Path) -> None:
    files = {f"{copy}/{name}": content for copy in range(60) for name, content in jpegs(10).items()}
    params = data_params(source="folder", location=str(write_folder(tmp_dir / "mine", files)))
    download(params)
    shutil.copy(ROOT / "params.yaml", tmp_dir)

    partial = PATCHES.with_name(".patches.partial")
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.extract_patches"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not partial.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert partial.exists()
    assert not PATCHES.exists()

    extract_patches(params)
    first = contents(PATCHES)
    assert not partial.exists()
    shutil.rmtree(PATCHES)
    extract_patches(params)
    assert contents(PATCHES) == first
