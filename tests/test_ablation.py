"""A variant is the run with one switch of the model thrown."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from patchdm.ablation import SAMPLINGS, VARIANTS, Changes, variant_params
from patchdm.config import Ablation, load_params
from patchdm.errors import PatchDMError
from tests.conftest import REPO
from tests.stages.tiny import tiny_params

RUN = tiny_params(
    train={"code_dropout": 0.1, "position_dropout": 0.5},
    ablation={"variants": ["full", "no-code"], "samplings": ["shifted"], "seeds": [0, 1]},
)


def differences(variant: str, seed: int) -> dict[str, Any]:
    """Return the keys in which a cell's params differ from the run's, with the cell's values."""
    run, cell = RUN.model_dump(), variant_params(RUN, variant, seed).model_dump()
    return {
        f"{section}.{key}": value
        for section, values in cell.items()
        for key, value in values.items()
        if value != run[section][key]
    }


@pytest.mark.parametrize(("key", "known"), [("variants", VARIANTS), ("samplings", SAMPLINGS)])
def test_params_yaml_may_name_every_one(key: str, known: Changes):
    (values,) = get_args(Ablation.model_fields[key].annotation)
    assert list(get_args(values)) == list(known)


@pytest.mark.parametrize(
    ("variant", "change"),
    [
        ("full", {}),
        ("no-position", {"model.position": False}),
        ("pixel-fixed", {"model.collage": "pixel-fixed"}),
        ("pixel-random", {"model.collage": "pixel-random"}),
        ("no-collage", {"model.collage": "none"}),
        ("no-code", {"model.code": "none"}),
        ("eps-prediction", {"diffusion.prediction_type": "epsilon"}),
        ("v-prediction", {}),
        ("shifted", {"sample.tiling": "shifted"}),
        ("training-codes", {"sample.code": "training"}),
        ("guided", {"sample.guidance_scale": 0.5}),
        (
            "guided-interval",
            {"sample.guidance_scale": 0.5, "sample.guidance_interval": [250, 750]},
        ),
    ],
)
def test_a_variant_changes_one_switch(variant: str, change: dict[str, Any]):
    none = {f"ablation.{key}": [] for key in ("variants", "samplings", "seeds")}
    assert differences(variant, RUN.base.seed) == change | none
    assert differences(variant, 7) == {"base.seed": 7} | change | none


def test_a_cell_does_not_know_the_others():
    other = RUN.model_copy(
        update={"ablation": Ablation(variants=["full"], samplings=[], seeds=[3])}
    )
    assert variant_params(RUN, "full", 3) == variant_params(other, "full", 3)


def test_unknown_variants_are_refused():
    with pytest.raises(PatchDMError) as error:
        variant_params(RUN, "no-unet", 0)
    assert str(error.value) == (
        "variant no-unet: unknown, expected full, no-position, pixel-fixed, pixel-random, "
        "no-collage, no-code, eps-prediction, v-prediction, shifted, training-codes, guided, "
        "guided-interval"
    )


def test_the_study_is_the_demo_with_an_ablation():
    study, demo = (load_params(REPO / f"presets/{name}.yaml") for name in ("study", "demo"))
    changes = {
        "data": {"views": 8},  # as when it was measured
        "model": {"patch_size": 8},
        "sample": {"num_images": 1024, "guidance_scale": 0.0},  # which is a sampling of its own
    }
    for section in ("data", "features", "model", "diffusion", "sample", "evaluate"):
        same = getattr(demo, section).model_copy(update=changes.get(section, {}))
        assert getattr(study, section) == same, section
    for drop in ("code_dropout", "position_dropout"):
        assert getattr(study.train, drop) == getattr(demo.train, drop)
    assert study.rows * study.cols >= 8 * 4
    assert study.sample.num_images >= 1000
    assert [*study.ablation.variants, "v-prediction"] == list(VARIANTS)
    assert study.diffusion.prediction_type == "v_prediction"
    assert study.ablation.samplings == list(SAMPLINGS)
    assert len(study.ablation.seeds) >= 3
    assert study.base.seed in study.ablation.seeds  # the run is one of the cells
