"""The whole DAG, once, on tiny images, in a repository of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stages._common import CODES, METRICS, PATCHDM, REPORT, SAMPLES
from tests.conftest import REPO

METRIC_KEYS = {
    "fid_samples",
    "fid_blurred",
    "fid_test",
    "kid_samples",
    "seam_samples",
    "seam_real",
    "seam_padded_samples",
    "seam_padded_real",
    "extractor",
    "n_samples",
    "params_hash",
    "git_revision",
}


def run(folder: Path, *command: str) -> str:
    """Run a command as a user with the environment's Python first on the path."""
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def copy_repository(folder: Path) -> None:
    """Copy this repository's files, without a record of what has run."""
    for name in run(REPO, "git", "ls-files").splitlines():
        if (REPO / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPO / name, folder / name)
    (folder / "dvc.lock").unlink(missing_ok=True)


def commit(folder: Path) -> None:
    """Make a repository of a folder, with one commit."""
    run(folder, "git", "init", "-q")
    run(folder, "git", "add", "-A")
    author = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    run(folder, "git", *author, "commit", "-qm", "smoke")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This repository's files, committed, with the smoke preset run to the end."""
    folder = tmp_path_factory.mktemp("smoke") / "patchdm"
    copy_repository(folder)
    shutil.copy(REPO / "presets/smoke.yaml", folder / "params.yaml")
    commit(folder)
    run(folder, "dvc", "repro")
    return folder


def test_every_stage_wrote_its_outputs(clone: Path):
    metrics = json.loads((clone / METRICS).read_text())
    assert metrics.keys() >= METRIC_KEYS
    assert metrics["n_samples"] == 8
    assert metrics["git_revision"] != "unknown"
    assert [path.name for path in sorted((clone / SAMPLES).rglob("*.png"))] == [
        f"{seed:06d}.png" for seed in range(8)
    ]
    assert (clone / PATCHDM / "unet/diffusion_pytorch_model.safetensors").is_file()
    assert "<table" in (clone / REPORT).read_text()


def test_a_second_run_has_nothing_to_do(clone: Path):
    before = (clone / "dvc.lock").read_bytes()
    ran = re.findall(r"Running stage '(.*)'", run(clone, "dvc", "repro"))
    assert ran == ["check"]  # which looks whether there is
    assert (clone / "dvc.lock").read_bytes() == before


@pytest.mark.parametrize("out", [SAMPLES, CODES, METRICS])
def test_a_deleted_output_comes_back_with_the_same_bytes(clone: Path, out: Path):
    target = clone / out
    before = _bytes(target)
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    run(clone, "dvc", "repro")
    assert _bytes(target) == before


def test_dvc_sees_metrics_and_plots(clone: Path):
    assert "fid_samples" in run(clone, "dvc", "metrics", "show")
    run(clone, "dvc", "plots", "show")
    page = (clone / "dvc_plots/index.html").read_text()
    assert "loss_shifted" in page
    shutil.rmtree(clone / "dvc_plots")


@pytest.mark.slow
def test_an_experiment_is_a_params_diff(clone: Path):
    run(clone, "dvc", "exp", "run", "-S", "train.learning_rate=2e-4")
    assert "train.learning_rate" in run(clone, "dvc", "params", "diff")
    assert "fid_samples" in run(clone, "dvc", "metrics", "diff", "HEAD")
    run(clone, "dvc", "plots", "diff", "HEAD")
    assert "loss_shifted" in (clone / "dvc_plots/index.html").read_text()


def _bytes(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    return {str(file.relative_to(path)): file.read_bytes() for file in files if file.is_file()}
