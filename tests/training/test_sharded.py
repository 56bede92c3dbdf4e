"""FSDP2: sharded weights, whole checkpoints, the same training."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from tests.conftest import REPO
from tests.training.toy import Training, toy_plan

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]


def train_sharded(folder: Path, stop_after: int = 0) -> None:
    script = [str(REPO / "tests/training/sharded.py"), str(folder), str(stop_after)]
    env = {"PYTHONPATH": str(REPO), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    subprocess.run([*TORCHRUN, *script], env=env, check=True, capture_output=True)


@pytest.mark.slow
def test_shards_train_as_one_process(tmp_path: Path) -> None:
    expected = Training(tmp_path / "one", plan=toy_plan(micro_batch_size=2)).run()
    for name, stops in (("whole", []), ("stopped", [7, 5])):
        folder = tmp_path / name
        folder.mkdir()
        for stop in stops:
            train_sharded(folder, stop)
            assert not (folder / "weights.pt").exists()
        train_sharded(folder)
        for key, value in torch.load(folder / "weights.pt", weights_only=True).items():
            assert_close(value, expected[key], atol=1e-6, rtol=0)


@pytest.mark.slow
def test_a_checkpoint_of_shards_goes_on_without(tmp_path: Path) -> None:
    """What is saved is whole: the number of processes may change at a restart."""
    expected = Training(tmp_path / "one", plan=toy_plan(micro_batch_size=2)).run()
    train_sharded(tmp_path, 9)
    found = Training(tmp_path, plan=toy_plan(micro_batch_size=2))
    weights = found.run()
    assert found.progress[0] == 40
    for key, value in weights.items():
        assert_close(value, expected[key], atol=1e-6, rtol=0)
