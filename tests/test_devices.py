"""Networks on another device than the CPU: meta, whose tensors refuse to meet those of the CPU.

And what GPUs may do, as far as it can be seen without one.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from patchdm.devices import device_for
from patchdm.pipeline import PatchDMPipeline
from tests.conftest import REPO
from tests.small_pipeline import P, pipeline

generate = sys.modules["patchdm.sampling.generate"]
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


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], tuple[bool, ...]]]:
    """Pretend that there is a GPU; yield what says which kernels it may use; then reset that."""

    def found() -> tuple[bool, ...]:
        cudnn, enabled = torch.backends.cudnn, torch.are_deterministic_algorithms_enabled()
        return enabled, cudnn.deterministic, cudnn.benchmark, torch.backends.cuda.matmul.allow_tf32

    assert found() == (False,) * 4
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    yield found
    device_for(deterministic=False)


def test_training_alone_is_free_to_choose_kernels(kernels):
    for deterministic, training, free in (
        (False, True, True),
        (False, False, False),
        (True, True, False),
        (True, False, False),
    ):
        assert device_for(deterministic=deterministic, training=training) == "cuda"
        assert kernels() == (deterministic, deterministic, free, free)


def test_a_cpu_needs_no_choice(kernels, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_for(deterministic=True, training=True) == "cpu"
    assert kernels() == (False,) * 4


def test_a_stage_says_whether_it_trains():
    """So that a cell of the ablation, which trains and encodes in one process, is as the run."""
    sources = {file.stem: file.read_text() for file in (REPO / "stages").glob("[!_]*.py")}
    of_device = {name: text for name, text in sources.items() if "device_for(" in text}
    training = {name for name, text in of_device.items() if "training=True" in text}
    others = {
        "applications",
        "cache_embeddings",
        "cache_features",
        "evaluate",
        "reference",
        "sample",
    }
    assert training == {"train_patchdm", "train_latent"}
    assert of_device.keys() - training == others


def test_a_process_that_draws_is_as_deterministic_as_its_parent(
    kernels, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(generate, "process_number", lambda: 3)
    monkeypatch.setattr(PatchDMPipeline, "to", lambda _, device: device)
    modes = {"deterministic": True, "compiled": False}
    assert generate._begun(pickle.dumps(pipeline()), "cuda", **modes) == "cuda:3"
    assert kernels() == (True, True, False, False)


def test_a_process_that_draws_compiles_as_its_parent(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(PatchDMPipeline, "to", lambda pipe, _: pipe)
    modes = {"deterministic": False, "compiled": True}
    assert generate._begun(pickle.dumps(pipeline()), "cpu", **modes).unet.is_compiled


def seeded() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(3)]


@pytest.mark.parametrize("tiling", ["shifted", "blend"])
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
