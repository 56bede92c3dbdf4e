"""The plan of a training takes its numbers from a section of params.yaml."""

from __future__ import annotations

from dataclasses import fields

import pytest

from patchdm.training.plan import Plan, plan_of
from tests.stages.tiny import tiny_params


@pytest.mark.parametrize("section", ["train", "latent"])
def test_a_plan_is_its_section_but_for_what_is_given(section: str):
    config = getattr(tiny_params(), section)
    given = {"seed": 3, "items_seen": 40, "micro_batch_size": 2, "warmup_items": 5}
    plan = plan_of(config, **given, grad_clip=0.25)
    for field in fields(Plan):
        expected = (given | {"grad_clip": 0.25}).get(field.name, getattr(config, field.name, None))
        assert getattr(plan, field.name) == expected
    with pytest.raises(AttributeError, match="items_seen"):
        plan_of(config, seed=3)
