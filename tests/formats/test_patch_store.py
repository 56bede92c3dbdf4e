"""A store gives back what was written, window by window."""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import pickle
import resource
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from patchdm.errors import PatchDMError
from patchdm.extract import store_writer
from patchdm.formats.images import Pixels
from patchdm.formats.patch_store import PatchStore
from patchdm.training.windows import read_windows
from tests.photographs import photograph
from tests.stores import write_store


def plan_of(count: int) -> pd.DataFrame:
    train = count - count // 3
    return pd.DataFrame(
        {
            "image": range(count),
            "source": [f"{number}.jpg" for number in range(count)],
            "view": 0,
            "split": ["train"] * train + ["test"] * (count - train),
        }
    )


def write(folder: Path, images: Pixels) -> PatchStore:
    write_store(folder, plan_of(len(images)), list(images))
    return PatchStore(folder)


@pytest.fixture
def images() -> Pixels:
    return np.stack([photograph(number) for number in range(7)])  # (7, 48, 96, 3)


@pytest.fixture(params=[1, 3, 7, 100], ids="{}-a-shard".format)
def store(
    request: pytest.FixtureRequest, tmp_path: Path, images: Pixels, monkeypatch: pytest.MonkeyPatch
) -> PatchStore:
    monkeypatch.setattr(store_writer, "SHARD_BYTES", request.param * images[0].nbytes + 5)
    return write(tmp_path / "store", images)


@pytest.mark.parametrize("patch_size", [8, 16, 48])
def test_every_window_is_a_slice_of_the_padded_image(
    store: PatchStore, images: Pixels, patch_size: int
) -> None:
    rows, cols = 48 // patch_size, 96 // patch_size
    index, row, col = (grid.ravel() for grid in np.indices((len(images), rows, cols)))
    windows, inside = read_windows(store, index, row, col, patch_size)

    half = patch_size // 2
    canvas = np.pad(images, ((0, 0), (half, half), (half, half), (0, 0)))
    on_image = np.pad(np.ones((48, 96), bool), half)
    for k, (i, r, c) in enumerate(zip(index, row, col, strict=True)):
        square = np.s_[r * patch_size : (r + 2) * patch_size, c * patch_size : (c + 2) * patch_size]
        np.testing.assert_array_equal(windows[k], canvas[i][square])
        np.testing.assert_array_equal(inside[k], on_image[square])


def test_images_come_back_in_any_order(store: PatchStore, images: Pixels) -> None:
    assert (len(store), store.height, store.width) == (7, 48, 96)
    np.testing.assert_array_equal(store.images([6, 0, 3, 3]), images[[6, 0, 3, 3]])
    assert store.images([]).shape == (0, 48, 96, 3)


def test_index_describes_the_images(store: PatchStore, images: Pixels) -> None:
    assert store.rows("train").tolist() == [0, 1, 2, 3, 4]
    assert store.rows("test").tolist() == [5, 6]
    means = store.index[["mean_red", "mean_green", "mean_blue"]].to_numpy()
    np.testing.assert_allclose(means, images.mean(axis=(1, 2)))
    assert store.index["sha256"].tolist() == [
        hashlib.sha256(image.tobytes()).hexdigest() for image in images
    ]


@pytest.mark.parametrize(
    ("index", "row", "col", "found"),
    [
        (7, 0, 0, "image 7 to 7, expected 0 to 6"),
        (-1, 0, 0, "image -1 to -1, expected 0 to 6"),
        (0, 3, 0, "window position 3 to 3, expected 0 to 2"),
        (0, 0, 6, "window position 6 to 6, expected 0 to 5"),
        (0, 0, -1, "window position -1 to -1, expected 0 to 5"),
    ],
)
def test_windows_outside_are_refused(
    store: PatchStore, index: int, row: int, col: int, found: str
) -> None:
    with pytest.raises(IndexError, match=found):
        read_windows(store, [index], [row], [col], 16)


@pytest.mark.parametrize("patch_size", [3, 5, 32])
def test_patch_sizes_that_do_not_fit_are_refused(store: PatchStore, patch_size: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        read_windows(store, [0], [0], [0], patch_size)


def test_shards_are_bounded(
    tmp_path: Path, images: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_writer, "SHARD_BYTES", 3 * images[0].nbytes)
    write(tmp_path / "store", images)
    shards = sorted((tmp_path / "store").glob("*.npy"))
    assert [len(np.load(shard)) for shard in shards] == [3, 3, 1]


@pytest.mark.parametrize("damage", ["cut", "shard lost", "index lost", "index cut"])
def test_damaged_stores_are_named(
    tmp_path: Path, images: Pixels, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_writer, "SHARD_BYTES", 3 * images[0].nbytes)
    write(tmp_path / "store", images)
    shard, index = tmp_path / "store/images-00001.npy", tmp_path / "store/index.parquet"
    match damage:
        case "cut":
            shard.write_bytes(shard.read_bytes()[:-1])
        case "shard lost":
            shard.unlink()
        case "index lost":
            index.unlink()
        case "index cut":
            index.write_bytes(index.read_bytes()[:-9])
    with pytest.raises(PatchDMError, match=r"store: (no readable|found 4 images in 2 shards)"):
        PatchStore(tmp_path / "store")


def test_other_processes_read_the_same(store: PatchStore, images: Pixels) -> None:
    again = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(again.images([4, 1]), images[[4, 1]])

    def read(number: int) -> None:
        np.testing.assert_array_equal(store.images([number] * 50), images[[number] * 50])

    context = multiprocessing.get_context("fork")  # children share the files of this process
    children = [context.Process(target=read, args=(number,)) for number in (1, 6)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0]


def test_memory_stays_flat_while_a_store_is_read(tmp_path: Path) -> None:
    """Not the store's 60 MB: a memory map would count them."""
    image = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    write_store(tmp_path / "store", plan_of(300), [image] * 300)
    store = PatchStore(tmp_path / "store")
    chosen = np.random.default_rng(1).permutation(300).reshape(-1, 10)
    corner = np.zeros(10, int)
    read_windows(store, chosen[0], corner, corner, 64)
    before = resident()
    for rows in chosen:
        read_windows(store, rows, corner + 1, corner + 1, 64)
        store.images(rows[:2])
    assert resident() - before < 8 * 2**20


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_index_is_no_python_object_an_image(tmp_path: Path) -> None:
    store = write(tmp_path / "store", np.zeros((7, 16, 16, 3), np.uint8))
    assert "index" not in vars(store)
    assert len(store) == 7
    assert len(store.rows("train")) == 5
    assert store.columns("view", "split").shape == (7, 2)
    assert "index" not in vars(store)
    assert {str(kind) for kind in store.index.dtypes} <= {"int64", "bool", "str", "float64"} | {
        "uint32",
        "uint64",
    }


def test_full_disk_is_an_error_not_a_crash(
    tmp_path: Path, images: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_writer, "_shard_path", lambda *_: Path("/dev/full"))
    with pytest.raises(OSError, match="No space left") as error:
        write(tmp_path / "store", images)
    assert error.value.errno == errno.ENOSPC
