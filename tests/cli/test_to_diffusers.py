"""The pipeline under the generic class of diffusers: from a folder, and from a hub and back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import AutoModel, DiffusionPipeline
from huggingface_hub import hf_api

from patchdm.pipeline import PatchDMPipeline
from patchdm.saved import BUNDLED
from tests.cli.hub import Hub
from tests.conftest import REPO
from tests.small_pipeline import images, pipeline


@pytest.fixture
def hub(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The hub that diffusers asks, too: by a client that was made when it was imported."""
    monkeypatch.setattr(hf_api.api, "endpoint", hub.site.url)
    return hub


NAME = "someone/sea"
PROGRAM = """
import patchdm.pipeline, sys
from diffusers import DiffusionPipeline
print(type(DiffusionPipeline.from_pretrained(sys.argv[1])).__name__)
"""


def found(name: str | Path, **options: object) -> PatchDMPipeline:
    """Load by the generic class."""
    pipe = DiffusionPipeline.from_pretrained(name, **options)
    assert isinstance(pipe, PatchDMPipeline)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_a_folder_is_loaded_by_the_generic_class(tmp_path: Path):
    pipe = pipeline()
    pipe.save_pretrained(tmp_path)
    assert torch.equal(images(found(tmp_path)), images(pipe))
    assert found(tmp_path, scheduler=pipe.latent_scheduler).scheduler is pipe.latent_scheduler
    half = found(tmp_path, torch_dtype=torch.float16)
    assert half.unet.dtype == half.code_table.dtype == torch.float16
    found(BUNDLED)


def test_parts_are_loaded_by_the_generic_class(tmp_path: Path):
    pipe = pipeline()
    pipe.save_pretrained(tmp_path)
    unet = AutoModel.from_pretrained(str(tmp_path), subfolder="unet")
    assert type(unet) is type(pipe.unet)


def test_importing_the_pipeline_is_enough():
    environment = os.environ | {"PYTHONPATH": str(REPO)}
    command = [sys.executable, "-c", PROGRAM, str(BUNDLED)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "PatchDMPipeline\n", done.stderr


def test_a_pipeline_goes_to_a_hub_and_comes_back(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    pipe = pipeline()
    pipe.push_to_hub(NAME, token="hf_secret")
    for name, content in hub.pushed[f"{NAME}@main"].items():
        Path("got", name).parent.mkdir(parents=True, exist_ok=True)
        Path("got", name).write_bytes(content)
    hub.serve(NAME, Path("got"))
    expected = images(pipe)
    assert torch.equal(images(found(NAME)), expected)
    again = PatchDMPipeline.from_pretrained(NAME)
    again.set_progress_bar_config(disable=True)
    assert torch.equal(images(again), expected)


def test_a_model_of_a_hub_is_loaded_without_network(hub: Hub, tmp_path: Path):
    pipe = pipeline()
    pipe.save_pretrained(tmp_path)
    hub.serve(NAME, tmp_path)
    expected = images(found(NAME))
    asked = len(hub.site.asked)
    assert torch.equal(images(found(NAME, local_files_only=True)), expected)
    assert len(hub.site.asked) == asked
