"""FSDP2: sharded weights, whole checkpoints, the same training."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from tests.conftest import REPO
from tests.training.sharded import TRAININGS, toy_training

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]


def train_sharded(name: str, folder: Path, stop_after: int = 0) -> None:
    script = [str(REPO / "tests/training/sharded.py"), name, str(folder), str(stop_after)]
    env = {"PYTHONPATH": str(REPO), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    subprocess.run([*TORCHRUN, *script], env=env, check=True, capture_output=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    # The network's rounding differs in more places, and Adam divides it by small gradients.
    ("training", "tolerance"),
    [("toy", 1e-6), ("network", 1e-4)],
)
def test_shards_train_as_one_process(tmp_path: Path, training: str, tolerance: float) -> None:
    expected = TRAININGS[training](tmp_path / "one").run()
    for name, stops in (("whole", []), ("stopped", [7, 5])):
        folder = tmp_path / name
        folder.mkdir()
        for stop in stops:
            train_sharded(training, folder, stop)
            assert not (folder / "weights.pt").exists()
        train_sharded(training, folder)
        for key, value in torch.load(folder / "weights.pt", weights_only=True).items():
            assert_close(value, expected[key], atol=tolerance, rtol=0)


@pytest.mark.slow
def test_a_checkpoint_of_shards_goes_on_without(tmp_path: Path) -> None:
    """What is saved is whole: the number of processes may change at a restart."""
    expected = toy_training(tmp_path / "one").run()
    train_sharded("toy", tmp_path, 9)
    found = toy_training(tmp_path)
    weights = found.run()
    assert found.progress[0] == 40
    for key, value in weights.items():
        assert_close(value, expected[key], atol=1e-6, rtol=0)
