"""A folder in which the commands of the docs work: a model, a photograph, a mask, presets."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from patchdm.formats.images import save_png
from patchdm.pipeline import PatchDMPipeline
from patchdm.saved import BUNDLED
from tests.conftest import REPO
from tests.photographs import photograph


@pytest.fixture(scope="session")
def laid_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder: `data/models` is the bundled model, as the training stages write one."""
    folder = tmp_path_factory.mktemp("docs")
    parts = {
        "patchdm": ("unet", "scheduler", "code_table"),
        "latent": ("latent", "latent_scheduler"),
    }
    for model, names in parts.items():
        for name in names:
            place = folder / "data/models" / model / name.removeprefix("latent_")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(BUNDLED / name)
    shutil.copy(REPO / "presets/showcase.yaml", folder / "params.yaml")
    for name in ("presets", "data/bundled"):
        (folder / name).symlink_to(REPO / name)
    for name in ("PATH", "Pictures/sea"):
        (folder / name).mkdir(parents=True)
    image = photograph(3, 256, 128)
    mask = np.zeros_like(image)
    mask[32:96, 64:160] = 255
    save_png(folder / "photo.png", image)
    save_png(folder / "mask.png", mask)
    shutil.copy(folder / "photo.png", folder / "photo.jpg")  # what it is, is read from its bytes
    return folder


@pytest.fixture
def reader(laid_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in such a folder of one's own."""
    shutil.copytree(laid_out, tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the pipeline make one step of any call."""

    def one_step(method: Callable[..., Any], **fewer: int) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            return method(*args, **options | fewer)

        return call

    for name, fewer in (
        ("__call__", {"latent_num_inference_steps": 1}),
        ("inpaint", {"resamplings": 1}),
        ("outpaint", {"resamplings": 1}),
    ):
        method = one_step(getattr(PatchDMPipeline, name), num_inference_steps=1, **fewer)
        monkeypatch.setattr(PatchDMPipeline, name, method)
