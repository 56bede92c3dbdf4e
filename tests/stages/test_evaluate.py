from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from patchdm.config import Params, params_hash
from patchdm.data.images import read_image, save_png
from patchdm.data.patch_store import PatchStore
from patchdm.errors import PatchDMError
from patchdm.files import sha256
from stages import _common
from stages._common import METRICS, PATCHES, SAMPLES, TABLES
from stages.evaluate import UNET_WEIGHTS, evaluate
from tests.stages.tiny import tiny_params, write_tiny_store

FIRST, COUNT = 40, 12
TABLE = TABLES / "metrics.csv"


@pytest.fixture
def params(tmp_dir: Path, landscapes: Path) -> Params:
    """A finished sampling: the samples are 12 of the training images."""
    write_tiny_store(tmp_dir / PATCHES, landscapes)
    for place, image in enumerate(PatchStore(PATCHES).images(range(COUNT))):
        save_png(SAMPLES / f"{FIRST + place:06d}.png", image)
    UNET_WEIGHTS.parent.mkdir(parents=True)
    UNET_WEIGHTS.write_bytes(b"weights")
    return tiny_params(
        sample={"first_seed": FIRST, "num_images": COUNT},
        evaluate={"kid_subset_size": 8, "batch_size": 5},
    )


def test_metrics_compare_samples_with_their_reference_points(params: Params) -> None:
    evaluate(params)
    metrics = json.loads(METRICS.read_text())

    assert metrics["n_samples"] == COUNT
    assert (metrics["n_train"], metrics["n_test"]) == (18, 3)
    # These samples are real training images: near, and without seams.
    assert metrics["fid_samples"] < 0.5 * metrics["fid_test"]
    assert metrics["fid_samples"] < 0.5 * metrics["fid_blurred"]
    assert metrics["kid_samples"] < metrics["kid_blurred"]
    assert metrics["seam_samples"] == pytest.approx(metrics["seam_real"], rel=0.1)


def test_metrics_say_where_they_come_from(params: Params) -> None:
    evaluate(params)
    metrics = json.loads(METRICS.read_text())

    assert metrics["extractor"] == "efficientnet-lite0"
    assert len(metrics["extractor_weights_hash"]) == 64
    assert metrics["resizer"].startswith("bilinear 224x224")
    assert metrics["seeds"] == {"first": FIRST, "count": COUNT}
    assert metrics["unet_weights_hash"] == sha256(UNET_WEIGHTS)
    assert metrics["params_hash"] == params_hash(params)
    assert metrics["git_revision"] == "unknown"  # the scratch folder is no repository


def test_the_table_names_the_extractor_and_leaves_unmeasured_cells_empty(params: Params) -> None:
    evaluate(params)
    table = pd.read_csv(TABLE, index_col="set")
    metrics = json.loads(METRICS.read_text())

    assert table.columns.tolist() == [
        "n", "FID-EffNetLite0", "KID-EffNetLite0", "KID-EffNetLite0-std", "seam",
        "seam_padded",
    ]  # fmt: skip
    assert table["n"].to_dict() == {"train": 18, "samples": COUNT, "blurred": 18, "test": 3}
    assert table["FID-EffNetLite0"].isna().to_dict()["train"]
    assert table.loc["samples", "FID-EffNetLite0"] == metrics["fid_samples"]
    for name, key in (("train", "real"), ("samples", "samples")):
        assert table.loc[name, "seam"] == metrics[f"seam_{key}"]
        assert table.loc[name, "seam_padded"] == metrics[f"seam_padded_{key}"]


@pytest.mark.parametrize(("shift", "seam"), [(0, "seam_samples"), (4, "seam_padded_samples")])
def test_seams_are_found_at_the_borders_of_either_grid(
    params: Params, shift: int, seam: str
) -> None:
    """A checkerboard of patches lies over the samples."""
    y, x = np.mgrid[:16, :32] + shift
    for path in SAMPLES.glob("*.png"):
        bright = 60 * ((y // 8 + x // 8) % 2)[..., None]
        save_png(path, (read_image(path) * 0.7 + bright).astype(np.uint8))
    evaluate(params)
    metrics = json.loads(METRICS.read_text())
    other = {"seam_samples", "seam_padded_samples"} - {seam}
    assert metrics[seam] > 1.5
    assert metrics[other.pop()] < 1


def test_the_same_samples_give_the_same_bytes(params: Params) -> None:
    evaluate(params)
    first = METRICS.read_bytes(), TABLE.read_bytes()
    evaluate(params)
    assert (METRICS.read_bytes(), TABLE.read_bytes()) == first


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
        (_remove, "not found, sample.first_seed and sample.num_images ask for it"),
        (_truncate, "damaged image"),
        (_replace_by_text, "found no image"),
        (_enlarge, "found 40 x 16 pixels, allowed is 32 x 16"),
    ],
)
def test_a_bad_sample_is_named_and_nothing_is_written(
    params: Params, damage: object, message: str
) -> None:
    damage(SAMPLES / "000047.png")
    with pytest.raises(PatchDMError, match=rf"000047\.png: .*{message}") as error:
        evaluate(params)
    assert "\n" not in str(error.value)
    assert not METRICS.exists()
    assert not TABLE.exists()


def test_missing_network_is_named(params: Params) -> None:
    UNET_WEIGHTS.unlink()
    with pytest.raises(PatchDMError, match=r"unet/diffusion_pytorch_model\.safetensors: not found"):
        evaluate(params)


@pytest.mark.usefixtures("tmp_dir")
def test_git_revision_names_commit_and_changes() -> None:
    assert _common.git_revision() == "unknown"

    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)

    git("init")
    Path("file").write_text("1")
    git("add", "file")
    git("commit", "-m", "start")
    clean = _common.git_revision()
    Path("file").write_text("2")
    assert len(clean) >= 7
    assert _common.git_revision() == f"{clean}-dirty"
