"""The split goes by photograph, or by groups of them, and depends on nothing else."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchdm.errors import PatchDMError
from patchdm.extract.splits import held_out, lay_out, regroup


def manifest(contents: list[int]) -> pd.DataFrame:
    """Photographs with these contents; equal numbers are equal files."""
    hashes = [hashlib.sha256(str(content).encode()).hexdigest() for content in contents]
    names = [f"{number:03d}.jpg" for number in range(len(contents))]
    return pd.DataFrame({"image": names, "sha256": hashes})


@settings(deadline=None)  # a busy machine
@given(
    contents=st.lists(st.integers(0, 60), min_size=2, max_size=60),
    test_fraction=st.sampled_from([0.01, 0.1, 0.2, 0.5]),
    views=st.integers(1, 3),
    flips=st.booleans(),
)
def test_split_properties(
    contents: list[int], test_fraction: float, views: int, flips: bool
) -> None:
    photographs = manifest(contents)
    try:
        layout = lay_out(photographs, test_fraction, views=views, flips=flips)
    except PatchDMError:
        held_out = sorted(photographs["sha256"])[: -(-len(contents) // 2)]
        assert photographs["sha256"].isin(held_out).all()  # (nearly) all files are the same
        return
    train, test = layout[layout["split"] == "train"], layout[layout["split"] == "test"]
    assert len(train) > 0
    assert len(test) >= test_fraction * len(contents) * views
    assert layout["image"].tolist() == list(range(len(layout)))
    assert layout["split"].tolist() == ["train"] * len(train) + ["test"] * len(test)
    assert set(layout["source"]) == set(photographs["image"])

    content = photographs.set_index("image")["sha256"]
    assert not set(content[train["source"]]) & set(content[test["source"]])

    for part, each in ((train, views + flips), (test, views)):
        assert part["view"].tolist() == list(range(each)) * part["source"].nunique()
        assert part["source"].tolist() == part["source"].iloc[::each].repeat(each).tolist()


def test_split_ignores_order_and_names_of_files() -> None:
    photographs = manifest(list(range(40)))
    layout = lay_out(photographs, 0.2, views=1, flips=True)
    shuffled = photographs.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(layout, lay_out(shuffled, 0.2, views=1, flips=True))

    renamed = photographs.assign(image=[f"x{name}" for name in photographs["image"]])
    again = lay_out(renamed, 0.2, views=1, flips=True)
    assert again["source"].tolist() == [f"x{name}" for name in layout["source"]]


@pytest.mark.parametrize(
    ("count", "fraction", "held_out"), [(141, 0.2, 29), (10, 0.7, 7), (5, 0.2, 1)]
)
def test_held_out_share_is_rounded_up_exactly(count: int, fraction: float, held_out: int) -> None:
    layout = lay_out(manifest(list(range(count))), fraction, views=1, flips=False)
    assert (layout["split"] == "test").sum() == held_out


def test_nothing_left_for_training_is_an_error() -> None:
    with pytest.raises(
        PatchDMError, match=r"data\.test_fraction: 0\.9 of 2 photographs leaves none"
    ):
        lay_out(manifest([1, 2]), 0.9, views=1, flips=True)
    with pytest.raises(PatchDMError, match=r"0\.2 of 3 photographs leaves none"):
        lay_out(manifest([7, 7, 7]), 0.2, views=1, flips=True)


def regrouped(
    groups: list[int], fraction: float, *, views: int = 1, flips: bool = False, lost: int = 0
) -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame] | None:
    """Split photographs of these groups, of which the first `lost` are damaged.

    Returns:
        The new layout, the old places of its images, and the layout before.
    """
    photographs = manifest(list(range(len(groups))))
    layout = lay_out(photographs, fraction, views=views, flips=flips)
    group_of = dict(zip(photographs["image"], groups, strict=True))
    originals = layout.loc[layout["view"] == 0, "source"]
    kept = ~layout["source"].isin(photographs["image"][:lost]).to_numpy()
    result = regroup(layout, kept, originals.map(group_of).to_numpy(), fraction)
    if result is None:
        return None
    assert result.layout["image"].tolist() == list(range(len(result.layout)))
    after = result.layout.assign(group=result.layout["source"].map(group_of))
    return after, result.old, layout[kept]


@settings(deadline=None)
@given(
    groups=st.lists(st.integers(0, 25), min_size=3, max_size=50),
    fraction=st.sampled_from([0.01, 0.1, 0.2, 0.5]),
    views=st.integers(1, 3),
    flips=st.booleans(),
    lost=st.integers(0, 2),
)
def test_no_group_is_parted_and_few_images_move(
    groups: list[int], fraction: float, views: int, flips: bool, lost: int
) -> None:
    result = regrouped(groups, fraction, views=views, flips=flips, lost=lost)
    if result is None:
        assert len(set(groups)) == 1
        return
    layout, old, before = result
    train, test = layout[layout["split"] == "train"], layout[layout["split"] == "test"]
    assert layout["split"].tolist() == ["train"] * len(train) + ["test"] * len(test)
    assert not set(train["group"]) & set(test["group"])
    assert set(layout["source"]) == set(before["source"])
    assert len(layout.drop_duplicates(["source", "view"])) == len(layout)
    assert len(train) == (views + flips) * train["source"].nunique()
    assert len(test) == views * test["source"].nunique()

    # What says to be in the store is there, and nothing moves that could stay.
    known = old >= 0
    assert len(set(old[known])) == known.sum()
    for name in ("source", "view", "original_sha256"):
        assert layout[name].array[known].tolist() == before[name].iloc[old[known]].tolist()
    made = layout[~known]
    assert (made["view"] == views).all()
    assert (made["split"] == "train").all()
    border = len(train)
    could_stay = ((old < border) == (np.arange(len(old)) < border)) & (old < len(old)) & known
    np.testing.assert_array_equal(old[could_stay], np.flatnonzero(could_stay))


@pytest.mark.parametrize(
    ("groups", "fraction", "count"),
    [
        (list(range(100)), 0.2, 20),
        ([k // 2 for k in range(100)], 0.2, 20),
        ([k // 2 for k in range(60)] + list(range(100, 141)), 0.2, 21),
        ([k // 4 for k in range(40)], 0.15, 8),  # 4 is as near to 6
        ([0] * 60 + list(range(1, 41)), 0.2, 20),
        ([0] * 95 + [1] * 5, 0.2, 5),
        ([0] * 40 + [1] * 60, 0.2, 40),
    ],
)
def test_share_held_out_is_as_near_as_groups_permit(
    groups: list[int], fraction: float, count: int
) -> None:
    result = regrouped(groups, fraction)
    assert result is not None
    assert (result[0]["split"] == "test").sum() == count


def test_groups_of_one_are_split_as_photographs_are() -> None:
    result = regrouped(list(range(50)), 0.2, flips=True)
    assert result is not None
    layout, old, before = result
    assert old.tolist() == list(range(90))
    pd.testing.assert_frame_equal(layout.drop(columns="group"), before)


def test_other_photographs_hardly_change_the_split_of_groups() -> None:
    groups = [k // 3 for k in range(120)]
    few, many = regrouped(groups, 0.2), regrouped([*groups, *range(1000, 1006)], 0.2)
    assert few is not None
    assert many is not None
    sides = [layout.set_index("source")["split"] for layout, _, _ in (few, many)]
    assert (sides[0] != sides[1][sides[0].index]).sum() <= 9
    assert held_out(126, 0.2) == 26
