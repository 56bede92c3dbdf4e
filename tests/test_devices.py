"""Networks on another device than the CPU: meta, whose tensors refuse to meet those of the CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from patchdm.pipeline import PatchDMPipeline
from tests.small_pipeline import P, pipeline

SHAPE = (1, 3, P, 2 * P)
QUICK = {"num_inference_steps": 3, "latent_num_inference_steps": 2, "output_type": "latent"}


@pytest.fixture
def pipe() -> PatchDMPipeline:
    """A pipeline whose networks are elsewhere, and whose schedulers are not."""
    pipe = pipeline()
    for part in pipe.components.values():
        if isinstance(part, nn.Module):
            part.to("meta")
    return pipe


def seeded() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(3)]


@pytest.mark.parametrize("tiling", ["shifted", "alternate", "average", "blend"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"guidance_scale": 0.5, "guidance_interval": (100, 900)},
        {"rows_per_chunk": 1},
        {"cols_per_chunk": 1},
    ],
)
def test_sampling(pipe, tiling: str, options: dict[str, Any]):
    made = pipe(1, *SHAPE[2:], generator=seeded(), tiling=tiling, **QUICK, **options).images
    assert made.device.type == "meta"
    assert made.shape == SHAPE


def test_callbacks(pipe):
    def change(_pipe: object, _index: int, _t: Tensor, tensors: dict[str, Any]) -> dict[str, Any]:
        return {"latents": tensors["latents"] * 0.9, "cond": tensors["cond"] + 0.1}

    options = {"callback_on_step_end": change}
    options["callback_on_step_end_tensor_inputs"] = ["latents", "cond"]
    assert pipe(1, *SHAPE[2:], generator=seeded(), **QUICK, **options).images.shape == SHAPE


@pytest.mark.parametrize("code", ["image", "latent"])
def test_inpainting(pipe, code: str):
    mask = torch.zeros(SHAPE[2:], dtype=torch.bool)
    mask[2:9, 3:12] = True
    options = {"code": code, "resamplings": 2, "guidance_scale": 0.5}
    made = pipe.inpaint(torch.zeros(SHAPE), mask, generator=seeded(), **QUICK, **options).images
    assert made.device.type == "meta"
    assert made.shape == SHAPE


def test_outpainting(pipe):
    options = {"generator": seeded(), "resamplings": 1, "left": 3, "bottom": 5}
    made = pipe.outpaint(torch.zeros(SHAPE), **QUICK, **options).images
    assert made.shape == (1, 3, P + 5, 2 * P + 3)
