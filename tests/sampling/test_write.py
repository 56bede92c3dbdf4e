"""Writing shards: complete and equal whatever came between."""

from __future__ import annotations

import errno
import itertools
import random
import shutil
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from patchdm.errors import PatchDMError
from patchdm.formats.images import save_png
from patchdm.sampling.write import PROGRESS
from tests.sampling.drawing import (
    SETTINGS,
    draw,
    drawn,
    kill,
    logged,
    published,
    start,
    write,
)

FORMATS = ["png", "webdataset"]


def wait_for(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def cut(path: Path, much: int = 20) -> None:
    path.write_bytes(path.read_bytes()[:-much])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGES = [cut, flip, empty, Path.unlink]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_image_is_replaced_and_no_other(tmp_path: Path, damage: Callable[[Path], None]):
    out, log = tmp_path / "out", tmp_path / "log"
    write(out)
    before = published(out)
    damage(out / "000005/000007.png")
    assert write(out, logged(log))
    assert drawn(log) == [7]
    assert published(out) == before


def test_a_file_of_the_users_in_a_shard_stays(tmp_path: Path):
    out = tmp_path / "out"
    write(out)
    (out / "000005/.DS_Store").write_text("of a file manager")
    assert write(out)
    (out / "000005/notes.txt").write_text("mine")
    with pytest.raises(PatchDMError, match="000005/notes.txt: found a file that is none of the"):
        write(out)
    assert (out / "000005/notes.txt").read_text() == "mine"
    assert len(list((out / "000005").glob("*.png"))) == 5


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_tar_is_replaced(tmp_path: Path, damage: Callable[[Path], None]):
    out, log = tmp_path / "out", tmp_path / "log"
    write(out, format="webdataset")
    before = published(out)
    damage(out / "000005.tar")
    assert write(out, logged(log), format="webdataset")
    assert set(drawn(log)) <= set(range(5, 10))
    assert published(out) == before


def test_sound_images_of_a_damaged_tar_are_kept(tmp_path: Path):
    out, log = tmp_path / "out", tmp_path / "log"
    write(out, format="webdataset")
    before = published(out)
    path = out / "000005.tar"
    with tarfile.open(path) as tar:
        offset = tar.getmember("000007.png").offset_data
    content = bytearray(path.read_bytes())
    content[offset + 60] ^= 1
    path.write_bytes(content)
    assert write(out, logged(log), format="webdataset")
    assert drawn(log) == [7]
    assert published(out) == before


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize(
    "spoil",
    [
        lambda out: (out / PROGRESS / "000005.json").unlink(),
        lambda out: (out / PROGRESS / "000005.json").write_text("{"),
        lambda out: shutil.rmtree(out / PROGRESS),
        lambda out: (out / "manifest.parquet").unlink(),
        lambda out: (out / "manifest.parquet").write_text("text"),
    ],
)
def test_lost_or_spoilt_records_are_made_again(
    tmp_path: Path, format_: str, spoil: Callable[[Path], None]
):
    write(tmp_path, format=format_)
    before = published(tmp_path)
    spoil(tmp_path)
    assert write(tmp_path, format=format_)
    assert published(tmp_path) == before


def test_a_file_of_the_users_in_the_place_of_a_shard_stays(tmp_path: Path):
    write(tmp_path)
    before = published(tmp_path)
    shutil.rmtree(tmp_path / "000010")
    (tmp_path / "000010").write_text("mine")
    with pytest.raises(PatchDMError, match="000010: found a file that is none of the samples"):
        write(tmp_path)
    (tmp_path / "000010").unlink()
    write(tmp_path)
    assert published(tmp_path) == before


@pytest.mark.parametrize("damage", DAMAGES)
def test_images_of_an_unfinished_shard_are_kept_if_sound(
    tmp_path: Path, damage: Callable[[Path], None]
):
    out, log = tmp_path / "out", tmp_path / "log"
    calls = itertools.count()

    def failing(seeds: list[int]) -> np.ndarray:
        if next(calls) == 5:
            raise KeyboardInterrupt
        return draw(seeds)

    with pytest.raises(KeyboardInterrupt):
        write(out, failing)
    assert not (out / "manifest.parquet").exists()
    damage(out / PROGRESS / "000005/000005.png")
    assert write(out, logged(log))
    assert drawn(log) == [5, 8, 9, 10, 11]
    write(tmp_path / "whole")
    assert published(out) == published(tmp_path / "whole")


@pytest.mark.parametrize("format_", FORMATS)
def test_killed_at_any_moment_it_ends_in_the_same_bytes(tmp_path: Path, format_: str):
    out, log = tmp_path / "out", tmp_path / "log"
    count = 40
    for _ in range(3):
        before = len(drawn(log))
        process = start(out, logged(log, 0.005), range(count), format=format_)
        wait_for(lambda before=before: len(drawn(log)) > before)
        time.sleep(random.uniform(0, 0.03))
        kill(process)
    assert write(out, logged(log), range(count), format=format_)
    seeds = drawn(log)
    assert set(seeds) == set(range(count))
    assert len(seeds) <= count + 3 * 2 * 2  # each kill cost two batches at most, one being saved
    write(tmp_path / "whole", seeds=range(count), format=format_)
    assert published(out) == published(tmp_path / "whole")


def test_processes_share_the_seeds_and_the_last_one_writes_the_manifest(tmp_path: Path):
    out, seeds = tmp_path / "out", range(60)
    logs = [tmp_path / name for name in "abc"]
    processes = [start(out, logged(log, 0.02), seeds, shard_size=4) for log in logs]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    shares = [drawn(log) for log in logs]
    assert all(shares)
    assert sorted(itertools.chain(*shares)) == list(seeds)  # nothing was drawn twice
    write(tmp_path / "whole", seeds=seeds, shard_size=4)
    assert published(out) == published(tmp_path / "whole")


def test_what_a_dead_process_held_is_taken_over(tmp_path: Path):
    out, log = tmp_path / "out", tmp_path / "log"
    dying = start(out, logged(tmp_path / "dying", 60.0))
    wait_for((out / PROGRESS / "000000").exists)

    def drawing(seeds: list[int]) -> np.ndarray:
        if dying.is_alive():
            kill(dying)
        return logged(log)(seeds)

    assert write(out, drawing)
    assert drawn(log)[:2] == [5, 6]  # the first shard was held
    assert sorted(drawn(log)) == list(range(12))


def test_what_others_hold_is_left_to_them(tmp_path: Path):
    out, log = tmp_path / "out", tmp_path / "log"
    other = start(out, logged(tmp_path / "other", 60.0))
    wait_for((out / PROGRESS / "000000").exists)
    assert not write(out, logged(log))
    kill(other)
    assert drawn(log) == list(range(5, 12))
    assert not (out / "manifest.parquet").exists()


def test_progress_counts_images_that_are_there(tmp_path: Path):
    counts: list[int] = []
    write(tmp_path, on_progress=counts.append)
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert counts[-1] == 12
    again: list[int] = []
    write(tmp_path, on_progress=again.append)
    assert again == [5, 10, 12]


def test_one_batch_is_saved_while_the_next_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    begun, saved = threading.Event(), []

    def drawing(seeds: list[int]) -> np.ndarray:
        if 2 in seeds:
            begun.set()
        if 4 in seeds:  # no more than one batch waits to be saved
            assert set(saved) >= {0, 1}
        return draw(seeds)

    def saving(path: Path, image: np.ndarray) -> None:
        assert begun.wait(60)
        save_png(path, image)
        saved.append(int(path.stem))

    monkeypatch.setattr("patchdm.sampling.write.save_png", saving)
    assert write(tmp_path, drawing)
    assert sorted(saved) == list(range(12))


def make_photos(out: Path) -> None:
    out.mkdir()
    (out / "IMG_1.jpg").write_text("photo")


def write_settings(out: Path, text: str) -> None:
    out.mkdir()
    (out / "samples.json").write_text(text)


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda out: out.write_text("file"), "out: found a file, expected a folder"),
        (make_photos, "out: found IMG_1.jpg, expected a new or empty folder"),
        (
            lambda out: write(out, settings=SETTINGS | {"weights": "other"}),
            'samples.json: the folder was begun with weights "other", now it is "abc"; ',
        ),
        (
            lambda out: write(out, settings={"num_steps": 3}),
            'samples.json: the folder was begun with weights null, now it is "abc"; ',
        ),
        (lambda out: write_settings(out, "text"), "samples.json: not the settings of samples"),
    ],
)
def test_a_folder_that_is_taken_is_refused_and_left_alone(
    tmp_path: Path, prepare: Callable[[Path], None], message: str
):
    out = tmp_path / "out"
    prepare(out)
    before = out.read_bytes() if out.is_file() else published(out)
    with pytest.raises(PatchDMError, match=message) as error:
        write(out)
    assert "\n" not in str(error.value)
    assert before == (out.read_bytes() if out.is_file() else published(out))


def test_a_full_disk_leaves_whole_images_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    out, log = tmp_path / "out", tmp_path / "log"
    save, failures = Image.Image.save, iter([True])

    def saving(image: Image.Image, path: Path, **options: str) -> None:
        save(image, "/dev/full" if path.match("*7.png*") and next(failures, 0) else path, **options)

    monkeypatch.setattr(Image.Image, "save", saving)
    with pytest.raises(OSError, match="No space left") as error:
        write(out)
    assert error.value.errno == errno.ENOSPC
    assert error.value.filename == str(out / PROGRESS / "000005/000007.png")
    left = sorted(path.name for path in out.rglob("*.png*"))
    assert left == [f"{seed:06d}.png" for seed in range(7)]
    assert write(out, logged(log))
    assert drawn(log) == list(range(6, 12))  # 6 and 7 are drawn together
