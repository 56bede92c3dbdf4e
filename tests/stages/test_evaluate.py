from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from patchdm.config import Params
from patchdm.errors import PatchDMError
from patchdm.files import sha256
from patchdm.formats.images import save_png
from patchdm.formats.patch_store import PatchStore
from patchdm.metrics.extractors import load_extractor
from stages._common import METRICS, PATCHDM, PATCHES, REFERENCE, SAMPLES, STATE, TABLES, Run
from stages._declared import params_digest
from stages.evaluate import UNET_WEIGHTS, evaluate
from stages.reference import reference
from tests.photographs import contents
from tests.stages.samples import sample_path, write_samples
from tests.stages.tiny import tiny_params, write_tiny_store

FIRST, COUNT = 40, 12
WEIGHTS = PATCHDM / UNET_WEIGHTS
LAST = SAMPLES / sample_path(FIRST, 47)
EVALUATE = {"kid_subset_size": 4, "batch_size": 5, "blocks": 2, "crop_size": 12}


def changed(**changes: Any) -> Params:
    sample = {"first_seed": FIRST, "num_images": COUNT}
    return tiny_params(sample=sample, evaluate=EVALUATE | changes)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, landscapes: Path) -> Path:
    """A finished sampling with its reference: the samples are 12 of the training images."""
    folder = tmp_path_factory.mktemp("measured")
    with contextlib.chdir(folder):
        write_tiny_store(folder / PATCHES, landscapes)
        write_samples(SAMPLES, FIRST, PatchStore(PATCHES).images(range(COUNT)))
        reference(changed())
        WEIGHTS.parent.mkdir(parents=True)
        WEIGHTS.write_bytes(b"weights")
        evaluate(changed())
    return folder


@pytest.fixture
def metrics(measured: Path) -> dict[str, Any]:
    return json.loads((measured / METRICS).read_text())


def table(folder: Path, name: str, index: str | None = None) -> pd.DataFrame:
    return pd.read_csv(folder / TABLES / name, index_col=index)


@pytest.fixture
def params(tmp_dir: Path, measured: Path) -> Params:
    """Work in a copy of that folder, not evaluated yet."""
    shutil.copytree(measured / "data", tmp_dir / "data")
    return changed()


def evaluated(params: Params) -> dict[str, Any]:
    evaluate(params)
    return json.loads(METRICS.read_text())


def test_metrics_compare_samples_with_their_reference_points(metrics: dict[str, Any]) -> None:
    assert (metrics["n_samples"], metrics["n_block"]) == (COUNT, COUNT // 2)
    assert (metrics["n_train"], metrics["n_test"]) == (18, 3)
    # These samples are real training images: near, inside their manifold, and without seams.
    for metric in ("fid", "crop_fid", "kid"):
        assert metrics[f"{metric}_samples"] < metrics[f"{metric}_blurred"]
    assert metrics["fid_samples"] < 0.7 * metrics["fid_test"]
    assert metrics["precision_samples"] == 1
    assert metrics["density_samples"] > 1
    assert metrics["seam_samples"] == pytest.approx(metrics["seam_real"], rel=0.2)
    assert not any(key.startswith("sfid") for key in metrics)  # EffNet has no spatial layer
    assert "recall_test" not in metrics  # three images have no third neighbour


@pytest.mark.usefixtures("params")
def test_blocks_of_seeds_are_measured_apart(measured: Path, metrics: dict[str, Any]) -> None:
    """Metrics are the mean of the blocks; a block is what a run of its seeds alone measures."""
    blocks = table(measured, "blocks.csv")
    fids = blocks["FID-EffNetLite0"]
    assert blocks[["first_seed", "n"]].to_numpy().tolist() == [[FIRST, 6], [FIRST + 6, 6]]
    assert fids[0] != fids[1]
    assert metrics["fid_samples"] == pytest.approx(fids.mean(), abs=1e-3)
    assert metrics["samples_min"]["fid"] == fids.min()
    assert metrics["samples_min"]["precision"] == blocks["Precision-EffNetLite0"].min()

    second = {"first_seed": FIRST + 6, "num_images": 6}
    alone = evaluated(tiny_params(sample=second, evaluate=EVALUATE | {"blocks": 1}))
    assert alone["fid_samples"] == pytest.approx(fids[1], abs=2e-3)
    assert alone["crop_fid_samples"] == pytest.approx(blocks["CropFID-EffNetLite0"][1], abs=2e-3)


def test_metrics_say_where_they_come_from(measured: Path, metrics: dict[str, Any]) -> None:
    assert metrics["extractor"] == "efficientnet-lite0"
    assert len(metrics["extractor_weights_hash"]) == len(metrics["data_hash"]) == 64
    assert metrics["resizer"].startswith("bilinear 224x224")
    assert metrics["seeds"] == {"first": FIRST, "count": COUNT}
    assert metrics["crop_size"] == 12
    assert metrics["nearest_k"] == 3
    assert metrics["unet_weights_hash"] == sha256(measured / WEIGHTS)
    assert metrics["params_hash"] == params_digest("evaluate", changed())
    assert metrics["git_revision"] == "unknown"  # the scratch folder is no repository


def test_the_table_names_the_extractor_and_leaves_unmeasured_cells_empty(
    measured: Path, metrics: dict[str, Any]
) -> None:
    found = table(measured, "metrics.csv", "set")
    features = ["FID", "sFID", "KID", "Precision", "Recall", "Density", "Coverage"]
    features += ["Coherence", "CropFID"]
    names = [f"{name}-EffNetLite0" for name in features]
    names[3:3] = ["KID-EffNetLite0-sem", "KID-EffNetLite0-std"]
    unseen = "KID-EffNetLite0-unseen"
    seams = ["Seam", "Seam-padded", "Seam-worst", "Seam-mean"]
    assert found.columns.tolist() == ["n", *names[:5], unseen, *names[5:], *seams]
    assert found["n"].to_dict() == {"train": 18, "samples": COUNT // 2, "blurred": 18, "test": 3}
    alone = "Coherence-EffNetLite0"
    assert found.loc["train", names].drop(alone).isna().all()
    assert -1 <= found[alone].min() <= found[alone].max() <= 1
    assert found["sFID-EffNetLite0"].isna().all()
    assert found[unseen].notna().tolist() == [True, True, True, False]
    assert found.loc["samples", unseen] == metrics["kid_unseen_samples"]
    for column, key in (("FID-EffNetLite0", "fid"), ("Coverage-EffNetLite0", "coverage")):
        for name in ("samples", "blurred", "test"):
            assert found.loc[name, column] == metrics[f"{key}_{name}"]
    for name, key in (("train", "real"), ("samples", "samples")):
        assert found.loc[name, "Seam"] == metrics[f"seam_{key}"]
        assert found.loc[name, "Seam-padded"] == metrics[f"seam_padded_{key}"]
    assert found["Seam-worst"].notna().tolist() == [False, True, True, True]
    assert found.loc["samples", "Seam-worst"] == metrics["seam_worst_samples"]
    assert found.loc["samples", "Seam-mean"] == metrics["seam_mean_samples"]


def test_copies_of_training_images_are_found(measured: Path, metrics: dict[str, Any]) -> None:
    found = table(measured, "nearest.csv")
    assert found["seed"].tolist() == list(range(FIRST, FIRST + COUNT))
    assert found["train_row"].tolist() == found["pixel_train_row"].tolist() == list(range(COUNT))
    assert found["distance"].max() < 0.01
    assert found["pixel_distance"].max() == 0
    for kind in ("features", "pixels"):
        assert metrics["nearest"][kind]["nearer_than_held_out"] == 1
        assert metrics["nearest"][kind]["median_held_out"] > 1


@pytest.mark.parametrize(("shift", "seam"), [(0, "seam_samples"), (4, "seam_padded_samples")])
def test_seams_are_found_at_the_borders_of_either_grid(
    params: Params, shift: int, seam: str
) -> None:
    """A checkerboard of patches lies over the samples."""
    y, x = np.mgrid[:16, :32] + shift
    bright = 60 * ((y // 8 + x // 8) % 2)[..., None]
    samples = PatchStore(PATCHES).images(range(COUNT)) * 0.7 + bright
    write_samples(SAMPLES, FIRST, samples.astype(np.uint8))
    metrics = evaluated(params)
    other = {"seam_samples", "seam_padded_samples"} - {seam}
    assert metrics[seam] > 1.5
    assert metrics[other.pop()] < 1
    assert metrics["seam_worst_samples"] > 2


def test_the_same_samples_give_the_same_bytes(params: Params, measured: Path) -> None:
    evaluate(params)
    first, second = (contents(folder / "reports") for folder in (measured, Path()))
    assert len(first) == 4
    assert second == first


def test_a_reference_serves_runs_of_other_seeds_elsewhere(
    params: Params, metrics: dict[str, Any]
) -> None:
    """The cells of the ablation train from seeds of their own."""
    other = params.model_copy(update={"base": params.base.model_copy(update={"seed": 9})})
    root = Path("cell")
    shared = {path: path for path in (PATCHES, REFERENCE, SAMPLES, PATCHDM)}
    evaluate(other, Run(root, shared | {METRICS: Path("cell.json")}))
    assert json.loads(Path("cell.json").read_text())["fid_samples"] == metrics["fid_samples"]
    assert len(contents(root / TABLES)) == 3
    assert (root / STATE / "evaluate/lock").exists()
    assert not METRICS.parent.exists()
    assert not (STATE / "evaluate").exists()


def _remove(path: Path) -> None:
    path.unlink()


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def _replace_by_text(path: Path) -> None:
    path.write_text("no picture")


def _enlarge(path: Path) -> None:
    save_png(path, np.zeros((16, 40, 3), np.uint8))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_remove, r"000047\.png: not found"),
        (_truncate, r"000047\.png: damaged image"),
        (_replace_by_text, r"000047\.png: found no image"),
        (_enlarge, "data/samples: found 40 x 16 pixels of seed 47, expected 32 x 16"),
    ],
)
def test_a_bad_sample_is_named_and_nothing_is_written(
    params: Params, damage: Callable[[Path], None], message: str
) -> None:
    damage(LAST)
    _refused(params, message)


def _refused(params: Params, message: str) -> None:
    with pytest.raises(PatchDMError, match=message) as error:
        evaluate(params)
    assert "\n" not in str(error.value)
    assert not METRICS.exists()
    assert not TABLES.exists()


@pytest.mark.usefixtures("params")
def test_fewer_samples_than_asked_for_are_refused() -> None:
    more = {"first_seed": FIRST - 2, "num_images": COUNT + 2}
    _refused(
        tiny_params(sample=more, evaluate=EVALUATE),
        "data/samples: found 12 of the 14 seeds from 38 on that sample.first_seed and",
    )


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [("crop_size", 10, 12), ("crops_per_image", 2, 1), ("nearest_k", 2, 3)],
)
@pytest.mark.usefixtures("params")
def test_a_reference_of_other_settings_is_refused(key: str, value: int, found: int) -> None:
    message = f"reference.json: found statistics with {key} {found}, expected {value}, run the"
    _refused(changed(**{key: value}), message)


def test_a_reference_of_other_data_is_refused(params: Params, landscapes: Path) -> None:
    (landscapes_but_one := Path("some")).mkdir()
    for path in sorted(landscapes.iterdir())[1:]:
        shutil.copy(path, landscapes_but_one)
    shutil.rmtree(PATCHES)
    shutil.rmtree("data/raw", ignore_errors=True)
    Path("data").rename("data-before")
    write_tiny_store(PATCHES, landscapes_but_one)
    for folder in ("reference", "samples", "models"):
        Path("data-before", folder).rename(Path("data", folder))
    _refused(params, "reference.json: found statistics with data_hash '[0-9a-f]{64}', expected '")


@pytest.mark.parametrize("key", ["extractor", "extractor_weights_hash"])
def test_a_reference_of_another_extractor_is_refused(params: Params, key: str) -> None:
    path = REFERENCE / "reference.json"
    extractor = load_extractor("efficientnet-lite0", None, "cpu")
    value = {"extractor": extractor.name, "extractor_weights_hash": extractor.weights_hash}[key]
    path.write_text(path.read_text().replace(value, "another"))
    _refused(params, f"reference.json: found statistics with {key} 'another', expected '{value}'")


@pytest.mark.parametrize("name", ["reference.json", "statistics.npz", "sets.csv"])
def test_a_missing_or_damaged_reference_is_refused(params: Params, name: str) -> None:
    path = REFERENCE / name
    path.write_bytes(path.read_bytes()[:20])
    _refused(params, r"data/reference: damaged statistics \(.*\), run the stage reference")
    path.unlink()
    _refused(params, f"data/reference/{name}: not found, run the stage reference")


def test_missing_network_is_named(params: Params) -> None:
    WEIGHTS.unlink()
    _refused(params, r"unet/diffusion_pytorch_model\.safetensors: not found")
