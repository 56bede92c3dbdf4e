"""The stage applications: what it measures are the pictures it writes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from patchdm.applications import SEEDS
from patchdm.config import Params
from patchdm.diffusion.schedules import image_scheduler, latent_scheduler
from patchdm.errors import PatchDMError
from patchdm.formats.images import read_image
from patchdm.formats.patch_store import PatchStore
from patchdm.metrics.extractors import load_extractor
from patchdm.metrics.repetition import repetition
from patchdm.metrics.restoration import mask_seam_score, masked_psnr
from patchdm.metrics.seams import score_of_maps, step_maps
from patchdm.models import CodeTable
from patchdm.models.build import build_code, build_latent, build_unet
from stages._common import APPLICATION_TABLES, APPLICATIONS, LATENT, PARAMS, PATCHDM, PATCHES
from stages.applications import applications
from tests.networks import awake
from tests.stages.models import bytes_of, kill_amid, small_params, write_params
from tests.stages.tiny import HEIGHT, WIDTH, write_tiny_store

HOLE = np.zeros((HEIGHT, WIDTH), bool)
HOLE[4:12, 8:24] = True
RIGHT = np.zeros((HEIGHT, WIDTH), bool)
RIGHT[:, 16:] = True
MASKS = {"inpainting": HOLE, "outpainting": RIGHT}
METHODS = ["Patch-DM", "edge replication", "OpenCV Telea"]
LARGE = (40, 72)


def application_params(**changes: dict[str, object]) -> Params:
    sizes = {"num_images": 3, "large_height": LARGE[0], "large_width": LARGE[1]}
    changes["applications"] = sizes | changes.get("applications", {})
    changes["sample"] = {"batch_size": 2} | changes.get("sample", {})
    return small_params(**changes)


def write_inputs(params: Params, landscapes: Path) -> None:
    """Write a store and untrained models into the working folder."""
    write_tiny_store(Path(PATCHES), landscapes)
    torch.manual_seed(0)
    unet = awake(build_unet(params.model, (params.data.height, params.data.width)))
    unet.save_pretrained(PATCHDM / "unet")
    image_scheduler(params.diffusion).save_pretrained(PATCHDM / "scheduler")
    if params.model.code == "table":
        features = np.random.default_rng(0).normal(size=(18, 1280)).astype(np.float32)
        table = CodeTable.from_features(features, params.model.code_dim, "efficientnet-lite0")
        table.save_pretrained(PATCHDM / "code_table")
    elif params.model.code == "encoder":
        awake(build_code(params.model, 18)).save_pretrained(PATCHDM / "encoder")
    LATENT.mkdir(parents=True, exist_ok=True)
    if params.model.code != "none":
        latent = awake(build_latent(params.latent, params.model.code_dim))
        latent.save_pretrained(LATENT / "latent")
        latent_scheduler(params.latent.beta).save_pretrained(LATENT / "scheduler")


def versions(task: str, count: int = 5) -> np.ndarray:
    """Return what the pictures show, (photographs, versions, H, W, 3)."""
    strips = [read_image(path) for path in sorted((APPLICATIONS / task).iterdir())]
    places = range(0, count * (WIDTH + 2), WIDTH + 2)
    return np.stack([[strip[:, x : x + WIDTH] for x in places] for strip in strips])


def seeds_of(task: str) -> np.ndarray:
    """Return the versions of several seeds, (photographs, seeds, H, W, 3)."""
    return versions(f"{task}-seeds", 2 + SEEDS)[:, 2:]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, landscapes: Path) -> Path:
    """A folder in which the stage ran."""
    folder = tmp_path_factory.mktemp("applications")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        params = application_params()
        write_inputs(params, landscapes)
        write_params(PARAMS, params)
        applications(params)
    return folder


@pytest.fixture
def done(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(finished)
    return finished


@pytest.mark.usefixtures("done")
@pytest.mark.parametrize("task", MASKS)
def test_pictures_show_every_version_of_the_held_out_photographs(task: str):
    mask, found = MASKS[task], versions(task)
    store = PatchStore(PATCHES)
    photographs = store.images(store.rows("test"))
    assert np.array_equal(found[:, 0], photographs)
    assert (found[:, 1][:, mask] == 128).all()
    for version in range(1, 5):
        assert np.array_equal(found[:, version][:, ~mask], photographs[:, ~mask])
    for version in range(2, 5):
        assert not np.array_equal(found[:, version][:, mask], photographs[:, mask])
    if task == "outpainting":
        assert (found[:, 3][:, mask] == np.repeat(photographs[:, :, 15:16], 16, axis=2)[
            :, np.ones((HEIGHT, 16), bool)
        ]).all()  # fmt: skip


@pytest.mark.usefixtures("done")
def test_the_table_measures_the_pictures():
    table = pd.read_csv(APPLICATION_TABLES / "applications.csv")
    assert table.columns.tolist() == [
        "task", "method", "n", "masked PSNR", "EffNetLite0 distance", "KID-EffNetLite0",
        "mask seam", "spread",
    ]  # fmt: skip
    assert (table["n"] == 3).all()
    for task, mask in MASKS.items():
        rows, found = table[table["task"] == task].set_index("method"), versions(task)
        assert rows.index.tolist() == [*METHODS, "photographs"]
        for version, method in enumerate(METHODS, start=2):
            psnr = masked_psnr(found[:, version], found[:, 0], mask).mean()
            assert rows.loc[method, "masked PSNR"] == pytest.approx(psnr, abs=1e-3)
            seam = mask_seam_score(found[:, version], mask)
            assert rows.loc[method, "mask seam"] == pytest.approx(seam, abs=1e-3)
            assert rows.loc[method, "EffNetLite0 distance"] > 0
        assert rows.loc["photographs"].isna().sum() == 3  # nothing to compare with itself
        assert rows["KID-EffNetLite0"].notna().all()
        versions_of = seeds_of(task)
        assert rows["spread"].notna().tolist() == [True, False, False, False]
        found_spread = versions_of[:, :, mask].astype(float).std(axis=1).mean()
        assert rows.loc["Patch-DM", "spread"] == pytest.approx(found_spread, abs=1e-3)


@pytest.mark.usefixtures("done")
@pytest.mark.parametrize("task", MASKS)
def test_the_first_photographs_are_restored_by_several_seeds(task: str):
    mask, found, several = MASKS[task], versions(task), seeds_of(task)
    assert np.array_equal(several[:, 0], found[:, 2])
    for one in range(SEEDS):
        assert np.array_equal(several[:, one][:, ~mask], found[:, 0][:, ~mask])
        for other in range(one):
            assert not np.array_equal(several[:, one][:, mask], several[:, other][:, mask])


@pytest.mark.usefixtures("done")
def test_large_samples_are_of_equal_seeds_and_measured():
    table = pd.read_csv(APPLICATION_TABLES / "large.csv", index_col="set")
    assert table.columns.tolist() == [
        "width", "height", "n", "seam", "seam_padded", "repetition", "crops",
        "crop-FID-EffNetLite0 (16 pixels)",
    ]  # fmt: skip
    assert table.index.tolist() == ["photographs", "training-size", "extrapolated", "rescaled"]
    assert (table["n"] == 3).all()
    assert (table["crops"] == 3 * (LARGE[0] * LARGE[1] // (HEIGHT * WIDTH))).all()
    assert table["crop-FID-EffNetLite0 (16 pixels)"].idxmin() == "photographs"
    found = {
        name: np.stack([read_image(path) for path in sorted((APPLICATIONS / name).iterdir())])
        for name in table.index[1:]
    }
    assert found["training-size"].shape == (3, HEIGHT, WIDTH, 3)
    assert found["extrapolated"].shape == found["rescaled"].shape == (3, *LARGE, 3)
    assert not np.array_equal(found["extrapolated"], found["rescaled"])
    for name, images in found.items():
        assert table.loc[name, "seam"] == pytest.approx(
            score_of_maps(*step_maps([images]), 8), abs=1e-3
        )
    extractor = load_extractor("efficientnet-lite0", None, "cpu")
    for name in ("extrapolated", "rescaled"):
        parts = [found[name][:, y : y + 20, x : x + 36] for y in (0, 20) for x in (0, 36)]
        features = np.stack([extractor.features(part).pooled for part in parts], axis=1)
        assert table.loc[name, "repetition"] == pytest.approx(repetition(features), abs=2e-3)
    assert table["repetition"].notna().all()


@pytest.mark.usefixtures("done")
def test_again_it_gives_the_same_bytes():
    before = bytes_of(APPLICATIONS, APPLICATION_TABLES)
    shutil.rmtree(APPLICATIONS)
    applications(application_params())
    assert bytes_of(APPLICATIONS, APPLICATION_TABLES) == before


@pytest.mark.slow
def test_killed_it_ends_in_the_same_bytes(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = bytes_of(APPLICATIONS, APPLICATION_TABLES)
    shutil.copytree(done / "data", tmp_path / "data")
    shutil.copy(done / PARAMS, tmp_path)
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(APPLICATIONS)
    kill_amid("applications", "*.png")
    assert not APPLICATIONS.exists()
    applications(application_params())
    assert bytes_of(APPLICATIONS, APPLICATION_TABLES) == whole


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"applications": {"code": "latent", "num_images": 2}}, marks=pytest.mark.slow),
        {"model": {"code": "encoder"}},
        pytest.param({"model": {"code": "none"}}, marks=pytest.mark.slow),
        {"model": {"position": False, "collage": "pixel-random"}},
    ],
    ids=str,
)
@pytest.mark.usefixtures("tmp_dir")
def test_every_kind_of_model_serves(changes: dict[str, dict[str, Any]], landscapes: Path):
    params = application_params(**{"applications": {"num_images": 2}} | changes)
    write_inputs(params, landscapes)
    applications(params)
    assert pd.read_csv(APPLICATION_TABLES / "applications.csv")["n"].tolist() == [2] * 8


@pytest.mark.usefixtures("tmp_dir")
@pytest.mark.slow
def test_it_samples_in_the_precision_of_the_run(landscapes: Path):
    found = []
    for name in ("no", "bf16"):
        params = application_params(
            applications={"num_images": 2}, sample={"mixed_precision": name}
        )
        if not found:
            write_inputs(params, landscapes)
        applications(params)
        found.append({task: versions(task) for task in MASKS})
    for task in MASKS:
        changed = (found[0][task] != found[1][task]).any(axis=(0, 2, 3, 4))
        assert changed.tolist() == [False, False, True, False, False]


@pytest.mark.usefixtures("tmp_dir")
def test_a_missing_model_is_named(landscapes: Path):
    params = application_params()
    write_inputs(params, landscapes)
    shutil.rmtree(PATCHDM / "unet")
    with pytest.raises(PatchDMError, match="no readable model: .*data/models/patchdm/unet"):
        applications(params)
