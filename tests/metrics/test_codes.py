"""Health of sampled codes: each of its numbers tells one illness from the others."""

from __future__ import annotations

import numpy as np
import pytest

from patchdm.metrics.codes import code_health

DIM = 16
RNG = np.random.default_rng(0)
CODES = RNG.normal(3.0, 2.0, (1500, DIM)).astype(np.float32)
OTHERS = RNG.normal(3.0, 2.0, (1500, DIM)).astype(np.float32)


def test_codes_of_the_same_kind_are_healthy():
    health = code_health(OTHERS, CODES)
    assert health["mean_error"] < 0.06
    assert health["std_ratio"] == pytest.approx(1, abs=0.03)
    assert health["nearest"] == pytest.approx(health["nearest_training"], rel=0.03)


def test_a_shift_is_in_the_mean():
    health = code_health(OTHERS + 1.0, CODES)  # half a deviation
    assert health["mean_error"] == pytest.approx(0.5, abs=0.03)
    assert health["std_ratio"] == pytest.approx(1, abs=0.03)


def test_a_collapse_is_in_the_deviation():
    health = code_health(CODES.mean(axis=0) + (OTHERS - OTHERS.mean(axis=0)) / 4, CODES)
    assert health["std_ratio"] == pytest.approx(0.25, abs=0.01)
    assert health["mean_error"] < 0.01


def test_copies_are_near():
    health = code_health(CODES[::-1][:700].copy(), CODES)
    assert health["nearest"] == 0
    assert health["nearest_training"] > 0.3


def test_the_nearest_other_is_by_hand():
    codes = np.array([[0.0, 7.0], [1.0, 7.0], [3.0, 7.0], [7.0, 7.0]])  # a constant dimension
    std = codes[:, 0].std()
    health = code_health(codes[:2] + np.array([0.25, 0.0]), codes)
    assert health["nearest_training"] == pytest.approx(np.median([1, 1, 2, 4]) / std / np.sqrt(2))
    assert health["nearest"] == pytest.approx(0.25 / std / np.sqrt(2))
