"""The paper's presets say what the paper says; test_dry_runs.py runs them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from patchdm.cli.plan import PAPER
from patchdm.config import Model, Params, load_params
from patchdm.models.blocks import Attention
from patchdm.models.build import build_code, build_unet
from tests.conftest import REPO

PRESETS = sorted(path.stem for path in (REPO / "presets").glob("*.yaml"))

EVERY_MODEL: dict[str, dict[str, Any]] = {
    "model": {
        "patch_size": 64,
        "pixel_fold": 1,
        "channels": [64, 128, 256, 512],
        "res_blocks": 2,
        "norm_groups": 32,
        "dropout": 0.1,
        "embed_dim": 512,
        "code_dim": 512,
        "position": True,
        "collage": "feature",
    },
    "diffusion": {
        "num_train_timesteps": 1000,
        "beta_schedule": "linear",
        "beta_start": 1e-4,
        "beta_end": 0.02,
        "prediction_type": "epsilon",
    },
    "train": {
        "batch_size": 128,
        "learning_rate": 1e-4,
        "code_learning_rate": 1e-4,
        "warmup_images": 0,
        "lr_decay": "none",
        "ema_decay": 0.9999,
        "ema_profile": "constant",
        "micro_batch_size": 16,  # of 32 a GPU of 4, for 8
        "grad_clip": 1.0,
    },
    "latent": {
        "layers": 10,
        "hidden": 2048,
        "beta": 0.008,
        "codes_seen": 60_000_000,
        "batch_size": 512,
        "learning_rate": 1e-4,
        "lr_decay": "none",
        "weight_decay": 0.01,
        "num_steps": 50,
    },
    "sample": {"solver": "ddim", "num_steps": 50, "num_images": 50_000, "tiling": "shifted"},
    "data": {"flips": True},
}
SIZE_CODE_BUDGET = {
    "nature1024": (1024, 512, "table", 20_000_000),
    "lhq1024": (1024, 1024, "table", 84_000_000),  # the paper names none: see the preset
    "ffhq1024": (1024, 1024, "table", 65_000_000),  # likewise
    "ffhq256": (256, 256, "encoder", 72_000_000),
    "lsun-church256": (256, 256, "encoder", 120_000_000),
    "lsun-bedroom256": (256, 256, "encoder", 120_000_000),
}


def preset(name: str) -> Params:
    return load_params(REPO / f"presets/{name}.yaml")


def attention_sides(network: torch.nn.Module, run: Any) -> set[int]:
    """Return the sides of the maps that attention sees in `run()`."""
    sides: set[int] = set()
    for module in network.modules():
        if isinstance(module, Attention):
            module.register_forward_pre_hook(lambda _, inputs: sides.add(inputs[0].shape[-1]))
    run()
    return sides


def test_the_paper_has_six():
    assert (
        set(SIZE_CODE_BUDGET) == set(PAPER) == set(PRESETS) - {"demo", "smoke", "study", "showcase"}
    )


@pytest.mark.parametrize("name", PAPER)
def test_paper_presets_say_what_the_paper_says(name: str):
    values = preset(name).model_dump()
    for section, keys in EVERY_MODEL.items():
        assert {key: values[section][key] for key in keys} == keys
    width, height, code, budget = SIZE_CODE_BUDGET[name]
    assert (values["data"]["width"], values["data"]["height"]) == (width, height)
    assert values["train"]["images_seen"] == budget
    assert values["model"]["code"] == code
    guided = (0.1, 0.5, 0.5) if code == "encoder" else (0.0, 0.0, 0.0)
    train, sampling = values["train"], values["sample"]
    drops = train["code_dropout"], train["position_dropout"]
    assert (*drops, sampling["guidance_scale"]) == guided


@pytest.mark.parametrize("processes", [1, 2, 4, 8])
@pytest.mark.parametrize("name", PRESETS)
def test_processes_share_the_batch_of_a_preset(name: str, processes: int):
    """In equal micro-batches where they are given, whatever the number of GPUs."""
    values = preset(name).model_dump()
    values["machine"]["processes"] = processes
    Params.model_validate(values)
    assert (values["train"]["micro_batch_size"] is not None) == (name in PAPER)


@pytest.mark.parametrize("name", PAPER)
def test_attention_sits_at_16x16(name: str):
    params = preset(name)
    with torch.device("meta"):
        unet, code = build_unet(params.model), build_code(params.model, 3)
        x_t, t, cond = torch.empty(1, 3, 64, 128), torch.empty(1), torch.empty(1, 512)
        images = torch.empty(1, 3, params.data.height, params.data.width)
    assert attention_sides(unet, lambda: unet(x_t, t, cond)) == {8, 16}  # 8: the middle
    if params.model.code == "encoder":
        assert attention_sides(code, lambda: code(images)) == {16}  # the middle lies there too


@pytest.mark.parametrize(
    ("patch_size", "multipliers", "level"),
    [(64, (1, 2, 4, 8), 2), (128, (1, 1, 2, 3, 4), 3), (256, (1, 1, 2, 2, 4, 4), 4)],
)
def test_backbones_of_all_patch_sizes_build(
    patch_size: int, multipliers: tuple[int, ...], level: int
):
    base = 64 if patch_size == 64 else 128
    values = preset("nature1024").model.model_dump() | {
        "patch_size": patch_size,
        "channels": [base * multiplier for multiplier in multipliers],
        "attention_levels": [level],
    }
    model = Model.model_validate(values)
    with torch.device("meta"):
        unet = build_unet(model)
        x_t = torch.empty(2, 3, patch_size, 2 * patch_size)
        t, cond = torch.empty(2), torch.empty(2, 512)
    sides = attention_sides(unet, lambda: unet(x_t, t, cond))
    assert sides == {16, patch_size >> (len(multipliers) - 1)}
    assert unet(x_t, t, cond, return_dict=False)[0].shape == x_t.shape
    assert unet.config.time_channels == base
