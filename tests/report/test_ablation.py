from __future__ import annotations

import numpy as np
import pytest

from patchdm.metrics.seams import step_maps
from patchdm.report.ablation import ablation, by_place
from tests.photographs import photograph


def test_steps_are_averaged_by_their_distance_from_a_border() -> None:
    image = np.zeros((1, 16, 32, 3), np.uint8)
    image[:, :, 8:] = 30  # a step across one of the three vertical borders
    image[:, 3:] += 10  # and one down inside the patches, 3 pixels behind a border
    found = by_place(*step_maps([image]), 8)
    pixels = [3 * 16 + 32, *[4 * 16 + 2 * 32] * 7]  # with a neighbour behind, by the place
    assert found[0] == pytest.approx(30 * 16 / pixels[0])
    assert found[3] == pytest.approx(10 * 32 / pixels[3])
    assert np.flatnonzero(found).tolist() == [0, 3]


def test_places_hold_all_steps() -> None:
    across, down = step_maps([np.stack([photograph(0, 24, 16), photograph(1, 24, 16)])])
    pixels = np.array([2 * 16 + 24, *[3 * 16 + 2 * 24] * 7])
    total = (by_place(across, down, 8) * pixels).sum()
    assert total == pytest.approx(across.sum() + down.sum())


def test_without_variants_there_is_no_section() -> None:
    assert ablation({}, None, tables=[], patch_size=8) == []
