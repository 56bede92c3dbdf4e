"""The stage train_latent: from codes to the latent model, through any kill."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from patchdm.errors import PatchDMError
from patchdm.formats.vectors import write_vectors
from patchdm.models import LatentMLP
from stages import _training
from stages._common import CODES, LATENT, LATENT_CURVES, PARAMS
from stages.train_latent import train_latent
from tests.conftest import REPO
from tests.stages.models import bytes_of, small_params, write_params


def write_codes(count: int = 9) -> np.ndarray:
    codes = np.random.default_rng(0).normal(3.0, 2.0, (count, 16)).astype(np.float32)
    write_vectors(CODES, np.arange(count), codes, {"code": "table"})
    return codes


@pytest.mark.usefixtures("tmp_dir")
def test_it_learns_normalised_codes() -> None:
    codes = write_codes()
    train_latent(small_params())
    assert sorted(path.name for path in LATENT.iterdir()) == ["latent", "scheduler"]
    latent = LatentMLP.from_pretrained(LATENT / "latent")
    np.testing.assert_allclose(latent.scale.mean, codes.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(latent.scale.std, codes.std(axis=0), atol=1e-5)
    scheduler = json.loads((LATENT / "scheduler/scheduler_config.json").read_text())
    assert scheduler["beta_start"] == scheduler["beta_end"] == 0.008
    points = (LATENT_CURVES / "plots/metrics/loss.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in points] == ["step", "64", "128", "192", "256"]


@pytest.mark.usefixtures("tmp_dir")
def test_without_codes_there_is_nothing_to_learn() -> None:
    write_vectors(CODES, np.arange(0), np.empty((0, 16), np.float32), {"code": "none"})
    train_latent(small_params())
    assert bytes_of(LATENT, LATENT_CURVES) == {}
    assert LATENT.is_dir()
    assert LATENT_CURVES.is_dir()


def test_stopped_it_ends_in_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        write_codes()
        if name == "stopped":
            with monkeypatch.context() as patch:
                patch.setattr(_training, "progress", interrupting_progress)
                with pytest.raises(PatchDMError, match="stopped after 112 of 256; run again"):
                    train_latent(small_params())
            assert not LATENT.exists()
        train_latent(small_params())
        found.append(bytes_of(LATENT, LATENT_CURVES))
    whole, stopped = found
    assert stopped == whole


@contextlib.contextmanager
def interrupting_progress(*_: object) -> Iterator[Callable[[int], None]]:
    """Send this process SIGTERM when 80 codes have been seen."""
    yield lambda seen: signal.raise_signal(signal.SIGTERM) if seen == 80 else None


RUN_ON_FULL_DISK = """
import runpy
import safetensors.torch
from safetensors import SafetensorError

def serialize_file(*args, **kwargs):
    raise SafetensorError(
        "Error while serializing: I/O error: No space left on device (os error 28)"
    )

safetensors.torch.serialize_file = serialize_file
runpy.run_module("stages.train_latent", run_name="__main__")
"""
"""The stage, and weights that end as on a full tmpfs; /dev/full would be replaced."""


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_keeps_the_old(tmp_dir: Path) -> None:
    write_codes()
    params = small_params()
    train_latent(params)
    before = bytes_of(LATENT)
    write_params(tmp_dir / PARAMS, params)
    done = subprocess.run(
        [sys.executable, "-c", RUN_ON_FULL_DISK],
        env=os.environ | {"PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    *_, last = done.stderr.strip().splitlines()
    assert last == "error: data/models/latent: no space left on the disk"
    assert "Traceback" not in done.stderr
    assert bytes_of(LATENT) == before
    assert list(LATENT.parent.iterdir()) == [LATENT]


@pytest.mark.usefixtures("tmp_dir")
def test_weights_are_the_average() -> None:
    write_codes()
    train_latent(small_params(latent={"ema_decay": 0.0, "ema_profile": "constant"}))
    raw = LatentMLP.from_pretrained(LATENT / "latent").head.weight
    train_latent(small_params(latent={"ema_decay": 0.9}))
    assert not torch.equal(LatentMLP.from_pretrained(LATENT / "latent").head.weight, raw)
