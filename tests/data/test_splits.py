"""The split goes by photograph and depends on nothing but the photographs."""

from __future__ import annotations

import hashlib

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchdm.data.splits import plan_images
from patchdm.errors import PatchDMError


def manifest(contents: list[int]) -> pd.DataFrame:
    """Photographs with these contents; equal numbers are equal files."""
    hashes = [hashlib.sha256(str(content).encode()).hexdigest() for content in contents]
    names = [f"{number:03d}.jpg" for number in range(len(contents))]
    return pd.DataFrame({"image": names, "sha256": hashes})


@given(
    contents=st.lists(st.integers(0, 60), min_size=2, max_size=60),
    test_fraction=st.sampled_from([0.01, 0.1, 0.2, 0.5]),
    flips=st.booleans(),
)
def test_split_properties(contents: list[int], test_fraction: float, flips: bool) -> None:
    photographs = manifest(contents)
    try:
        plan = plan_images(photographs, test_fraction, flips=flips)
    except PatchDMError:
        held_out = sorted(photographs["sha256"])[: -(-len(contents) // 2)]
        assert photographs["sha256"].isin(held_out).all()  # (nearly) all files are the same
        return
    train, test = plan[plan["split"] == "train"], plan[plan["split"] == "test"]
    assert len(train) > 0
    assert len(test) >= test_fraction * len(contents)
    assert plan["image"].tolist() == list(range(len(plan)))
    assert plan["split"].tolist() == ["train"] * len(train) + ["test"] * len(test)
    assert set(plan["source"]) == set(photographs["image"])
    assert not test["flipped"].any()

    content = photographs.set_index("image")["sha256"]
    assert not set(content[train["source"]]) & set(content[test["source"]])

    if flips:
        originals, mirrored = train.iloc[::2], train.iloc[1::2]
        assert not originals["flipped"].any()
        assert mirrored["flipped"].all()
        assert originals["source"].tolist() == mirrored["source"].tolist()
    else:
        assert not train["flipped"].any()


def test_split_ignores_order_and_names_of_files() -> None:
    photographs = manifest(list(range(40)))
    plan = plan_images(photographs, 0.2, flips=True)
    shuffled = photographs.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(plan, plan_images(shuffled, 0.2, flips=True))

    renamed = photographs.assign(image=[f"x{name}" for name in photographs["image"]])
    again = plan_images(renamed, 0.2, flips=True)
    assert again["source"].tolist() == [f"x{name}" for name in plan["source"]]


@pytest.mark.parametrize(
    ("count", "fraction", "held_out"), [(141, 0.2, 29), (10, 0.7, 7), (5, 0.2, 1)]
)
def test_held_out_share_is_rounded_up_exactly(count: int, fraction: float, held_out: int) -> None:
    plan = plan_images(manifest(list(range(count))), fraction, flips=False)
    assert (plan["split"] == "test").sum() == held_out


def test_nothing_left_for_training_is_an_error() -> None:
    with pytest.raises(
        PatchDMError, match=r"data\.test_fraction: 0\.9 of 2 photographs leaves none"
    ):
        plan_images(manifest([1, 2]), 0.9, flips=True)
    with pytest.raises(PatchDMError, match=r"0\.2 of 3 photographs leaves none"):
        plan_images(manifest([7, 7, 7]), 0.2, flips=True)
