"""The stage sample: one PNG a seed, the same whatever came between."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from patchdm.config import Params
from patchdm.data.images import read_image
from patchdm.diffusion.schedules import image_scheduler, latent_scheduler
from patchdm.errors import PatchDMError
from patchdm.files import sha256
from patchdm.models.build import build_latent, build_unet
from patchdm.pipeline import PatchDMPipeline
from stages._common import LATENT, PARAMS, PATCHDM, SAMPLES, STATE
from stages.sample import sample
from tests.networks import awake
from tests.stages.models import bytes_of, kill_amid, small_params, write_params

SEEDS = range(7)


def sample_params(**changes: dict[str, object]) -> Params:
    sizes = {"num_images": len(SEEDS), "batch_size": 3, "num_steps": 3}
    changes["sample"] = sizes | changes.get("sample", {})
    return small_params(evaluate={"kid_subset_size": 2}, **changes)


def write_models(params: Params) -> None:
    """Write untrained models where the training stages write theirs."""
    torch.manual_seed(0)
    awake(build_unet(params.model)).save_pretrained(PATCHDM / "unet")
    image_scheduler(params.diffusion).save_pretrained(PATCHDM / "scheduler")
    LATENT.mkdir(parents=True, exist_ok=True)
    if params.model.code != "none":
        latent = awake(build_latent(params.latent, params.model.code_dim))
        latent.save_pretrained(LATENT / "latent")
        latent_scheduler(params.latent.beta).save_pretrained(LATENT / "scheduler")


def state_file(seed: int) -> Path:
    (path,) = STATE.rglob(f"{seed:06d}.png")
    return path


@pytest.fixture
def params(tmp_dir: Path) -> Params:  # noqa: ARG001 - models go to the working folder
    params = sample_params()
    write_models(params)
    return params


def test_every_seed_has_its_image(params: Params) -> None:
    sample(params)
    names = [f"{seed:06d}.png" for seed in SEEDS]
    assert sorted(path.name for path in SAMPLES.iterdir()) == [*names, "manifest.parquet"]
    for name in names:
        assert read_image(SAMPLES / name).shape == (16, 32, 3)
    manifest = pd.read_parquet(SAMPLES / "manifest.parquet")
    assert manifest["seed"].tolist() == list(SEEDS)
    assert manifest["sha256"].tolist() == [sha256(SAMPLES / name) for name in names]
    assert manifest["sha256"].is_unique


def test_an_image_does_not_depend_on_batch_or_first_seed(params: Params) -> None:
    sample(params)
    images = {path.name: read_image(path) for path in SAMPLES.glob("*.png")}
    sample(sample_params(sample={"batch_size": 2, "first_seed": 2, "num_images": 4}))
    again = {path.name: read_image(path) for path in SAMPLES.glob("*.png")}
    assert sorted(again) == [f"{seed:06d}.png" for seed in range(2, 6)]
    for name, image in again.items():
        # Sums of another batch size may round to the next level.
        np.testing.assert_allclose(image.astype(int), images[name], atol=1, err_msg=name)


def test_it_goes_on_at_the_first_missing_image(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample(params)
    whole = bytes_of(SAMPLES)
    shutil.rmtree(SAMPLES)
    state_file(4).unlink()
    sampled: list[list[int]] = []
    call = PatchDMPipeline.__call__

    def recording(self: PatchDMPipeline, *size: int, **options: Any) -> Any:
        sampled.append([generator.initial_seed() for generator in options["generator"]])
        return call(self, *size, **options)

    monkeypatch.setattr(PatchDMPipeline, "__call__", recording)
    sample(params)
    assert sampled == [[3, 4, 5]]
    assert bytes_of(SAMPLES) == whole


@pytest.mark.parametrize("damage", ["cut", "empty", "other"])
def test_a_damaged_image_is_made_again(params: Params, damage: str) -> None:
    sample(params)
    whole = bytes_of(SAMPLES)
    path = state_file(5)
    content = path.read_bytes()
    path.write_bytes({"cut": content[:-40], "empty": b"", "other": b"GIF89a"}[damage])
    sample(params)
    assert bytes_of(SAMPLES) == whole


def test_killed_it_ends_in_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = sample_params(sample={"num_images": 90, "num_steps": 5})
    found = []
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        write_models(params)
        write_params(PARAMS, params)
        if name == "killed":
            kill_amid("sample", "*.png")
            assert not SAMPLES.exists()
        sample(params)
        found.append(bytes_of(SAMPLES))
    whole, killed = found
    assert killed == whole


@pytest.mark.parametrize(
    "model",
    [
        {"code": "none"},
        {"position": False},
        {"code": "none", "position": False},
        {"code": "encoder"},
        {"collage": "none"},
        {"collage": "pixel-fixed"},
        {"collage": "pixel-random"},
    ],
    ids=str,
)
@pytest.mark.usefixtures("tmp_dir")
def test_every_ablation_samples(model: dict[str, object]) -> None:
    params = sample_params(model=model, sample={"num_images": 2})
    write_models(params)
    sample(params)
    assert len(list(SAMPLES.glob("*.png"))) == 2


def test_guidance_changes_images(params: Params) -> None:
    sample(params)
    unguided = bytes_of(SAMPLES)
    dropouts = {"code_dropout": 0.1, "position_dropout": 0.5}
    sample(sample_params(train=dropouts, sample={"guidance_scale": 0.5}))
    assert bytes_of(SAMPLES).keys() == unguided.keys()
    assert bytes_of(SAMPLES) != unguided


def test_a_missing_model_is_named(params: Params) -> None:
    shutil.rmtree(PATCHDM / "unet")
    with pytest.raises(PatchDMError, match="no readable model: .*data/models/patchdm/unet"):
        sample(params)
    assert not SAMPLES.exists()
