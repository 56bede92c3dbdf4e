"""The stage sample: one image a seed, the same whatever came between."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import psutil
import pytest

from patchdm.config import Params
from patchdm.errors import PatchDMError
from patchdm.files import sha256
from patchdm.formats.shards import read_images, read_manifest
from patchdm.pipeline import PatchDMPipeline
from stages._common import PARAMS, PATCHDM, SAMPLES, STATE
from stages.sample import sample
from tests.photographs import contents
from tests.stages.models import (
    bytes_of,
    kill_amid,
    small_params,
    start,
    wait_for,
    write_models,
    write_params,
)

SEEDS = range(7)


def sample_params(**changes: dict[str, object]) -> Params:
    sizes = {"num_images": len(SEEDS), "batch_size": 3, "shard_size": 5, "num_steps": 3}
    changes["sample"] = sizes | changes.get("sample", {})
    return small_params(evaluate={"kid_subset_size": 2, "nearest_k": 1}, **changes)


def hashes() -> dict[int, str]:
    manifest = read_manifest(SAMPLES)
    return dict(zip(manifest["seed"], manifest["sha256"], strict=True))


@pytest.fixture
def params(tmp_dir: Path) -> Params:  # noqa: ARG001 - models go to the working folder
    params = sample_params()
    write_models(params)
    return params


def test_every_seed_has_its_image(params: Params) -> None:
    sample(params)
    names = {f"{'000000' if seed < 5 else '000005'}/{seed:06d}.png" for seed in SEEDS}
    assert set(contents(SAMPLES)) == names | {"manifest.parquet", "samples.json"}
    for seed, image in read_images(SAMPLES):
        assert image.shape == (16, 32, 3)
        assert hashes()[seed] == sha256(next(SAMPLES.rglob(f"{seed:06d}.png")))
    assert list(hashes()) == list(SEEDS)
    assert len(set(hashes().values())) == len(SEEDS)


def test_an_image_does_not_depend_on_batch_shard_format_or_first_seed(params: Params) -> None:
    sample(params)
    before = hashes()
    changes = {"batch_size": 2, "shard_size": 3, "first_seed": 2, "num_images": 4}
    sample(sample_params(sample=changes | {"format": "webdataset"}))
    assert set(contents(SAMPLES)) == {
        "000002.tar", "000005.tar", "manifest.parquet", "samples.json"
    }  # fmt: skip
    assert hashes() == {seed: before[seed] for seed in range(2, 6)}


def test_a_lost_output_comes_back_without_sampling(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample(params)
    whole = bytes_of(SAMPLES)
    shutil.rmtree(SAMPLES)
    monkeypatch.setattr(PatchDMPipeline, "__call__", None)
    sample(params)
    assert bytes_of(SAMPLES) == whole


def test_damaged_progress_does_not_reach_the_output(params: Params) -> None:
    sample(params)
    whole = bytes_of(SAMPLES)
    (path,) = STATE.rglob("000005.png")
    assert path.samefile(SAMPLES / "000005/000005.png")  # one file, two names: no space taken
    path.write_bytes(b"GIF89a")
    sample(params)
    assert bytes_of(SAMPLES) == whole


def test_the_solver_is_that_of_the_params(params: Params) -> None:
    sample(params)
    before = hashes()
    sample(sample_params(sample={"solver": "unipc"}))
    settings = json.loads((SAMPLES / "samples.json").read_text())
    assert settings["solver"] == "UniPCMultistepScheduler"
    assert hashes().keys() == before.keys()
    assert not set(hashes().values()) & set(before.values())


@pytest.mark.slow
def test_killed_it_ends_in_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
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
        assert ("sample: resumed, " in capfd.readouterr().err) == (name == "killed")
        found.append(bytes_of(SAMPLES))
    whole, killed = found
    assert killed == whole


@pytest.mark.slow
def test_killed_processes_leave_the_same_bytes_and_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of those that share the images, and the one that started them."""
    params = sample_params(
        base={"threads": 2}, sample={"num_images": 160, "num_steps": 50, "shard_size": 64}
    )
    (tmp_path / "whole").mkdir()
    monkeypatch.chdir(tmp_path / "whole")
    write_models(params)
    sample(params)  # on one thread
    whole = bytes_of(SAMPLES)
    (tmp_path / "killed").mkdir()
    monkeypatch.chdir(tmp_path / "killed")
    write_models(params)
    write_params(PARAMS, params)
    for victim in ("worker", "parent", None):
        before = set(STATE.rglob("*.png"))
        process = start("sample")
        if victim is None:
            assert process.wait(timeout=120) == 0
            break
        wait_for(process, lambda before=before: set(STATE.rglob("*.png")) - before)
        family = psutil.Process(process.pid).children(recursive=True)
        workers = [p for p in family if "forkserver" in " ".join(p.cmdline()) and not p.children()]
        assert len(workers) == 2
        (process if victim == "parent" else workers[0]).kill()
        _, errors = process.communicate(timeout=60)
        if victim == "worker":
            assert "error: sampling: found one of 2 processes killed" in errors
        _, alive = psutil.wait_procs(family, timeout=5)
        assert alive == []
    assert bytes_of(SAMPLES) == whole


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
    assert len(hashes()) == 2


def test_guidance_changes_images(params: Params) -> None:
    sample(params)
    unguided = hashes()
    dropouts = {"code_dropout": 0.1, "position_dropout": 0.5}
    guided = sample_params(train=dropouts, sample={"guidance_scale": 0.5})
    write_models(guided)  # of the same weights
    sample(guided)
    assert not set(hashes().values()) & set(unguided.values())


def test_a_missing_model_is_named(params: Params) -> None:
    shutil.rmtree(PATCHDM / "unet")
    with pytest.raises(PatchDMError, match="no readable model: .*data/models/patchdm/unet"):
        sample(params)
    assert not SAMPLES.exists()
