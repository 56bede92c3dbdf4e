"""Images change their places in a store, and nothing else happens to it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from patchdm.extract import store_writer
from patchdm.extract.moves import apply_moves, write_moves
from patchdm.extract.store_writer import RECORD, Records, describe, write_index
from patchdm.formats.images import Pixels
from patchdm.formats.patch_store import PatchStore
from tests.stores import write_store

HEIGHT, WIDTH = 2, 3


def image(number: int) -> Pixels:
    return np.full((HEIGHT, WIDTH, 3), number, np.uint8)


def make(place: int) -> tuple[Pixels, Records]:
    record = np.zeros(1, RECORD)
    record["kept"], record["original_width"] = True, 200 + place
    return image(200 + place)[None], record


@settings(deadline=None)
@given(
    count=st.integers(1, 12),
    new=st.integers(0, 6),
    lost=st.integers(0, 6),
    shard_images=st.sampled_from([1, 3, 4, 100]),
    data=st.data(),
)
def test_store_holds_what_was_wanted_where_it_was_wanted(
    count: int, new: int, lost: int, shard_images: int, data: st.DataObject
) -> None:
    staying = range(max(0, count - lost))
    assume(new or staying)
    old = np.array(data.draw(st.permutations([*staying, *[-1] * new])), np.int64)
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_writer, "SHARD_BYTES", shard_images * HEIGHT * WIDTH * 3)
        folder, moves = Path(name) / "store", Path(name) / "moves"
        images = [image(number) for number in range(count)]
        write_store(folder, pd.DataFrame({"split": ["train"] * count}), images)
        records = np.zeros(count, RECORD)
        records["original_width"] = np.arange(count)
        write_moves(moves, PatchStore(folder), records, old, make)
        for _ in range(2):  # the second time as after a kill
            found = apply_moves(moves, folder, records, old, HEIGHT, WIDTH)
            expected = np.where(old < 0, 200 + np.arange(len(old)), old)
            assert found["original_width"].tolist() == expected.tolist()
            assert found["row"].tolist() == list(range(len(old)))
            write_index(folder, pd.DataFrame({"split": ["train"] * len(old)}), found)
            pixels = PatchStore(folder).images(np.arange(len(old)))
            assert pixels[:, 0, 0, 0].tolist() == expected.tolist()
            assert (pixels == pixels[:, :1, :1, :1]).all()


def test_only_what_moves_is_copied(tmp_path: Path) -> None:
    images = [image(number) for number in range(20)]
    write_store(tmp_path / "store", pd.DataFrame({"split": ["train"] * 20}), images)
    old = np.arange(20)
    old[[3, 17]] = 17, 3
    records = np.zeros(20, RECORD)
    write_moves(tmp_path / "moves", PatchStore(tmp_path / "store"), records, old, make)
    assert (tmp_path / "moves/images.bin").stat().st_size == 2 * HEIGHT * WIDTH * 3
    assert describe(PatchStore(tmp_path / "store").images([3])[0])[0] == [3, 3, 3]
