"""The paper's presets, every stage of them, on 64 synthetic photographs each."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from ruamel.yaml import YAML

from benchmarks.evaluation_at_scale import random_inception
from patchdm.config import Params, load_params
from stages._common import METRICS, PATCHDM, REPORT
from tests.conftest import REPO
from tests.fetch.packs import lsun_zip
from tests.test_smoke import commit, copy_repository, run

PHOTOGRAPHS = 64
SIZES = {"ffhq256": (256, 256), "lsun-church256": (256, 256), "nature1024": (1024, 512)}


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_every_stage_of_the_papers_presets_runs(name: str, tmp_path: Path):
    """The networks at their full size, on a step or two; features by networks of random weights."""
    params = shortened(load_params(REPO / f"presets/{name}.yaml"), tmp_path)
    copy_repository(tmp_path)
    sheets = tmp_path / "patchdm/training/sheets.py"  # hours on a CPU: no budget of a run
    sheets.write_text(sheets.read_text().replace("STEPS = 20", "STEPS = 1"))
    YAML().dump(params.model_dump(mode="json"), tmp_path / "params.yaml")
    write_photographs(tmp_path, params)
    commit(tmp_path)
    assert "\nSTEPS = 1\n" in sheets.read_text()
    run(tmp_path, "dvc", "repro")
    metrics = json.loads((tmp_path / METRICS).read_text())
    assert (metrics["n_samples"], metrics["n_train"]) == (8, 2 * 57)  # mirrored; 7 are held out
    assert np.isfinite([metrics["fid_samples"], metrics["sfid_samples"]]).all()
    assert (tmp_path / PATCHDM / "unet").is_dir()
    assert f"make paper PRESET={name}" not in (tmp_path / REPORT).read_text()  # it was measured


def shortened(params: Params, folder: Path) -> Params:
    """Return a preset with the smallest budgets that every stage takes, and local weights."""
    width, height = params.data.width, params.data.height
    clip, inception = folder / "clip.pt", folder / "inception.pth"
    torch.manual_seed(0)
    torch.save(open_clip.create_model("ViT-B-16").state_dict(), clip)
    torch.save(random_inception().state_dict(), inception)
    location = {"lsun": "church_outdoor_train_lmdb.zip"}.get(params.data.source)
    changes: dict[str, dict[str, Any]] = {
        "base": {"threads": 2},
        "machine": {"workers": 2, "loaders": 0, "rows_per_chunk": 4},
        "data": {"location": location or params.data.location, "test_fraction": 0.1},
        "features": {"weights": str(clip)},
        "train": {"images_seen": 2, "batch_size": 2, "micro_batch_size": 1, "compile": False}
        | {"log_every": 2, "checkpoint_every": 2, "sheet_every": 1000},
        "latent": {"codes_seen": 64, "batch_size": 32, "num_steps": 1, "log_every": 32}
        | {"checkpoint_every": 64},
        "sample": {"num_images": 8, "num_steps": 1, "batch_size": 2, "compile": False},
        "applications": {"num_images": 2, "large_width": width, "large_height": height}
        | {"num_steps": 1, "resamplings": 1, "code_steps": 1, "code_windows": 1},
        "evaluate": {"weights": str(inception), "kid_subset_size": 8, "batch_size": 8},
    }
    values = params.model_dump(mode="json")
    return Params.model_validate(
        {section: keys | changes.get(section, {}) for section, keys in values.items()}
    )


def write_photographs(folder: Path, params: Params) -> None:
    """Write smooth images of random colours, a little larger than the training's."""
    draws = np.random.default_rng(0)
    size = params.data.width + 40, params.data.height + 30
    pictures = {}
    for number in range(PHOTOGRAPHS):
        colours = Image.fromarray(draws.integers(0, 256, (6, 8, 3), np.uint8))
        buffer = io.BytesIO()
        colours.resize(size, Image.Resampling.BICUBIC).save(buffer, "PNG")
        pictures[f"{number:02d}.png"] = buffer.getvalue()
    if params.data.source == "lsun":
        keys = {name.encode(): picture for name, picture in pictures.items()}
        lsun_zip(folder, keys, "church_outdoor_train_lmdb")
        return
    place = folder / params.data.location
    place.mkdir(parents=True)
    for name, picture in pictures.items():
        (place / name).write_bytes(picture)
