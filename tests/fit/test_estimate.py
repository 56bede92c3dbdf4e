"""The estimate against the times that the demo and the showcase took on two quiet cores."""

from __future__ import annotations

import pytest

from patchdm.config import load_params
from patchdm.fit.estimate import STAGES, START, seconds_of
from tests.conftest import REPO
from tests.fit.cases import DEMO_RATES, DEMO_WORK, SHOWCASE_RATES, SHOWCASE_WORK

PHOTOGRAPHS = 195


def test_the_demo_takes_what_it_took():
    params = load_params(REPO / "presets/demo.yaml")
    found = seconds_of(params, PHOTOGRAPHS, DEMO_RATES, DEMO_WORK)
    assert sum(found.values()) == pytest.approx(18.3 * 60, rel=0.25)
    measured = {
        "train_patchdm": 625, "cache_features": 13, "train_latent": 54, "sample": 17.5,
        "applications": 168, "reference": 149,
    }  # fmt: skip
    for name, seconds in measured.items():
        assert found[name] - START == pytest.approx(seconds, rel=0.3), name


def test_the_showcase_trains_as_long_as_it_did():
    params = load_params(REPO / "presets/showcase.yaml")
    found = seconds_of(params, PHOTOGRAPHS, SHOWCASE_RATES, SHOWCASE_WORK)
    assert found["train_patchdm"] == pytest.approx(75 * 60, rel=0.1)
    assert found["train_latent"] == pytest.approx(4 * 60, rel=0.25)
    assert sum(found.values()) < 2 * 75 * 60


def test_every_stage_without_an_ablation_counts():
    declared = (REPO / "dvc.yaml").read_text().splitlines()
    names = [line.strip(" :") for line in declared if line.startswith("  ") and line[2:3].isalpha()]
    names = [name for name in names if "ablate" not in name and not name.startswith("-")]
    assert sorted(STAGES) == sorted(names)
