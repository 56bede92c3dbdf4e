"""The stage extract_patches with several views of each photograph."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from patchdm.formats.images import read_views
from patchdm.formats.patch_store import PatchStore
from patchdm.formats.views import view_of
from stages._common import PATCHES, RAW
from stages.extract_patches import extract_patches
from tests.photographs import data_params, jpegs
from tests.stores import write_raw


def test_store_holds_views_of_every_photograph(tmp_dir: Path) -> None:
    write_raw(tmp_dir / RAW, jpegs(10))
    extract_patches(data_params(flips=True, views=3, view_scale=[0.5, 0.9], workers=1))
    store = PatchStore(PATCHES)
    train, test = store.rows("train"), store.rows("test")
    assert (len(train), len(test)) == (8 * 4, 2 * 3)
    assert store.photographs("train").tolist() == train[::4].tolist()
    assert store.photographs("test").tolist() == test[::3].tolist()
    index = store.index
    assert index["view"].tolist() == [0, 1, 2, 3] * 8 + [0, 1, 2] * 2
    for row in index.itertuples():
        view = view_of(row.original_sha256, row.view, 3, (0.5, 0.9))
        (expected,), size = read_views(RAW / row.source, 64, 32, [view])
        np.testing.assert_array_equal(store.images([row.image])[0], expected)
        assert (row.left, row.top, row.right, row.bottom) == view.box(size, (64, 32))
        assert row.flipped == view.mirrored
    parts = index[index["view"].isin([1, 2])]
    assert set(parts["flipped"]) == {False, True}
    assert ((parts["right"] - parts["left"]) / 96).between(0.5, 0.9).all()
