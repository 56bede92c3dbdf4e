from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from patchdm.report import figures
from patchdm.report.gallery import seam_profiles
from tests.photographs import photograph


def test_a_seam_shows_in_profile_and_map(monkeypatch: pytest.MonkeyPatch) -> None:
    profiles: list[Mapping[str, np.ndarray]] = []
    maps: list[tuple[np.ndarray, float]] = []

    def keep_profiles(steps: Mapping[str, np.ndarray], _size: int, _label: str) -> bytes:
        profiles.append(steps)
        return b""

    def keep_map(steps: np.ndarray, _size: int, highest: float) -> bytes:
        maps.append((steps, highest))
        return b""

    monkeypatch.setattr(figures, "profiles", keep_profiles)
    monkeypatch.setattr(figures, "step_map", keep_map)
    real = np.stack([photograph(number, 32, 16) for number in range(6)])
    flat = np.full_like(real, 100)
    flat[:, 8:, 16:] = 130  # a step down at y = 8 and across at x = 16, where they belong
    section = seam_profiles([flat[:2], flat[2:]], [real], 8)

    columns, rows = profiles
    assert np.flatnonzero(columns["samples"]).tolist() == [15]
    assert columns["samples"][15] == pytest.approx(30 * 8 / 16)
    assert np.flatnonzero(rows["samples"]).tolist() == [7]
    assert (rows["training images"] > 0).all()
    (samples, scale), (train, same_scale) = maps
    assert samples.shape == train.shape == (15, 31)
    assert scale == same_scale
    assert samples[7, 20] == samples[10, 15] == 15
    assert np.count_nonzero(samples) == 15 + 7  # 15 columns of the row, 7 rows of the column
    (table,) = section.tables
    assert [row[0] for row in table.rows] == [
        "shifted patches, columns", "shifted patches, rows",
        "padded patches, columns", "padded patches, rows",
    ]  # fmt: skip
    assert [row[1] for row in table.rows] == ["3", "1", "4", "2"]
    assert table.rows[0][3:] == ["inf", "x = 16"]
    assert table.rows[1][3:] == ["inf", "y = 8"]
    assert [float(row[2]) < 1.5 for row in table.rows] == [False, False, True, True]
    assert [picture.name for picture in section.pictures] == [
        "profile-columns", "profile-rows", "steps-samples", "steps-train",
    ]  # fmt: skip
