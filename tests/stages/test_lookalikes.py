"""The stage extract_patches with photographs that are copies of others: none crosses the split."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from patchdm.cli.verify import verify
from patchdm.config import Params
from patchdm.extract import moves, store_writer
from patchdm.formats.images import fit, read_image
from patchdm.formats.patch_store import PatchStore
from stages._common import PATCHES, RAW, STATE
from stages.extract_patches import extract_patches
from tests.photographs import contents, data_params, encoded, photograph
from tests.stores import write_raw

pytestmark = pytest.mark.usefixtures("tmp_dir")

CHANGES = [
    ("JPEG", lambda image: image),
    ("PNG", lambda image: image),
    ("WEBP", lambda image: image.resize((150, 75))),
    ("JPEG", lambda image: image.resize((384, 192))),
    ("JPEG", ImageOps.mirror),
    ("JPEG", lambda image: image.convert("L")),
]


def twins(count: int, copies: int) -> dict[str, bytes]:
    """Return photographs and a changed copy of some: `k.jpg` and `k-copy`."""
    files = {f"{k:03d}.jpg": encoded(photograph(k, 256, 128)) for k in range(count)}
    for k in range(copies):
        image_format, change = CHANGES[k % len(CHANGES)]
        buffer = io.BytesIO()
        change(Image.fromarray(photograph(k, 256, 128))).save(buffer, image_format, quality=60)
        files[f"{k:03d}-copy.{image_format.lower()}"] = buffer.getvalue()
    return files


def crossing(index: pd.DataFrame) -> int:
    """Return how many photographs are on both sides of the split."""
    sides = index.groupby(index["source"].str[:3])["split"].nunique()
    return int((sides == 2).sum())


def one_by_one() -> int:
    """Return how many photographs a split by SHA-256 alone holds out with a copy in training."""
    manifest = pd.read_parquet(RAW / "manifest.parquet").sort_values("sha256", ignore_index=True)
    test = manifest.index < math.ceil(0.2 * len(manifest))
    photographs = manifest["image"].str[:3]
    return int((test & photographs.isin(photographs[~test]).to_numpy()).sum())


@pytest.mark.parametrize("flips", [False, True])
def test_no_copy_crosses(flips: bool, capsys: pytest.CaptureFixture[str]) -> None:
    write_raw(RAW, twins(80, 40))
    crossed = one_by_one()
    assert crossed > 5

    extract_patches(data_params(flips=flips, workers=1))

    store = PatchStore(PATCHES)
    assert crossing(store.index) == 0
    assert len(store.rows("test")) == 24
    assert len(store.rows("train")) == 96 * (1 + flips)
    assert store.index["split"].tolist() == sorted(store.index["split"], reverse=True)
    assert verify(PATCHES, lambda _: lambda _: None).flaws == 0
    for row in store.index.itertuples():
        expected = fit(read_image(RAW / row.source), 64, 32)
        image = store.images([row.image])[0]
        np.testing.assert_array_equal(image, expected[:, ::-1] if row.flipped else expected)

    table = pd.read_csv(PATCHES / "duplicates.csv")
    assert sorted(table["source"].str[:3]) == [f"{k:03d}" for k in range(40)]
    assert (table["source"].str[:3] == table["like"].str[:3]).all()
    assert (table["split"] == table["like_split"]).all()
    assert table.loc[table["mirrored"], "source"].str[:3].tolist() != []
    assert table["crossed"].sum() == crossed
    message = (
        "duplicates.csv: found 40 photographs that look like another one, at most 2 in a group; "
        f"{crossed} held out would have had such a one in training and were put on its side"
    )
    assert message in " ".join(capsys.readouterr().err.split())


def test_without_copies_nothing_moves() -> None:
    write_raw(RAW, twins(20, 0))
    extract_patches(data_params(flips=True, workers=1))
    manifest = pd.read_parquet(RAW / "manifest.parquet")
    index = PatchStore(PATCHES).index
    smallest = sorted(manifest["sha256"])[:4]
    assert sorted(index.loc[index["split"] == "test", "original_sha256"]) == smallest
    assert index.loc[index["split"] == "train", "source"].is_monotonic_increasing
    assert pd.read_csv(PATCHES / "duplicates.csv").empty


def test_where_all_are_alike_they_are_split_one_by_one_and_that_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    picture = Image.fromarray(photograph(0, 256, 128))
    files = {}
    for quality in range(60, 80):
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality)
        files[f"{quality}.jpg"] = buffer.getvalue()
    write_raw(RAW, files)
    extract_patches(data_params(workers=1))
    store = PatchStore(PATCHES)
    assert (len(store.rows("train")), len(store.rows("test"))) == (16, 4)
    said = " ".join(capsys.readouterr().err.split())
    assert "4 held out would have had such a one in training and have, as all" in said


class KillError(Exception):
    """Stands for a kill."""


def interrupting(monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> Iterator[None]:
    """Let the first, second, .. call of a function raise, until none does."""
    function = getattr(owner, name)
    for number in range(1000):
        calls = iter(range(number + 1))

        def called(*args: object, _calls: Iterator[int] = calls, _last: int = number) -> object:
            if next(_calls, _last) == _last:
                raise KillError
            return function(*args)

        monkeypatch.setattr(owner, name, called)
        yield
        monkeypatch.setattr(owner, name, function)


@pytest.mark.parametrize(
    ("owner", "name"),
    [(moves, "replacing"), (store_writer, "_write"), (store_writer.ShardWriter, "finish")],
)
@pytest.mark.parametrize("shard_images", [3, 1000])
def test_interrupted_at_any_moment_it_ends_in_the_same_bytes(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, shard_images: int
) -> None:
    """Flips, and a copy that is damaged, so that the number of images changes."""
    monkeypatch.setattr(store_writer, "SHARD_BYTES", shard_images * 64 * 32 * 3)
    write_raw(RAW, twins(12, 8))
    (RAW / "004-copy.jpeg").write_bytes(b"damaged")
    params = data_params(flips=True, workers=1, damaged_fraction=0.1)
    extract_patches(params)
    expected = contents(PATCHES)
    assert crossing(PatchStore(PATCHES).index) == 0

    tries = 0
    for _ in interrupting(monkeypatch, owner, name):
        try:
            extract_patches(params)
            break
        except KillError:
            tries += 1
    assert tries > 0
    assert contents(PATCHES) == expected
    assert not any(path.name == "moves" for path in STATE.rglob("*"))


def test_bytes_do_not_depend_on_workers() -> None:
    write_raw(RAW, twins(20, 10))
    stores = []
    for workers in (1, 3):
        params: Params = data_params(flips=True, workers=workers)
        extract_patches(params)
        stores.append(contents(PATCHES))
    assert stores[0] == stores[1]


def test_damaged_photographs_that_are_repaired_after_the_moves_are_extracted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_raw(RAW, twins(20, 10))
    params = data_params(flips=True, workers=1, damaged_fraction=0.1)
    extract_patches(params)
    expected = contents(PATCHES)
    path = RAW / "000.jpg"
    whole = path.read_bytes()
    path.write_bytes(whole[:-50])
    with monkeypatch.context() as patch:
        patch.setattr(store_writer.ShardWriter, "replace", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            extract_patches(params)
    assert any(Path(STATE).rglob("moves"))
    path.write_bytes(whole)
    extract_patches(params)
    assert contents(PATCHES) == expected
