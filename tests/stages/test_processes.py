"""One training in several processes: the same losses, one line on failure, no one left behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from accelerate import Accelerator

from patchdm.config import Params, load_params
from patchdm.errors import PatchDMError
from stages._common import PATCHDM, PATCHDM_CURVES, STATE
from stages._processes import processes_of, train_together
from stages.train_patchdm import train_patchdm
from tests.conftest import REPO
from tests.stages.models import bytes_of, small_params, start, wait_for, write_inputs

STEPS = 20
SHARED = {
    "images_seen": 8 * STEPS,
    "micro_batch_size": 4,
    "log_every": 8,
    "checkpoint_every": 40,
    "sheet_every": 160,
}


def params_of(processes: int = 1, **train: object) -> Params:
    """Twenty steps with dropout, each of two micro-batches, on two cores."""
    base, model, machine = {"threads": 2}, {"dropout": 0.1}, {"processes": processes}
    return small_params(base=base, model=model, machine=machine, train=SHARED | train)


@pytest.fixture
def place(tmp_path: Path, landscapes: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that makes and enters a folder with the inputs of a training."""

    def enter(name: str, params: Params) -> None:
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        write_inputs(Path(), landscapes, params)

    return enter


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        env=os.environ | {"PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        check=False,
    )


def losses() -> np.ndarray:
    return pd.read_csv(PATCHDM_CURVES / "plots/metrics/loss.tsv", sep="\t")["loss"].to_numpy()


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def assert_none_left(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=60)
    assert alive == []


@pytest.mark.parametrize(
    ("mixed_precision", "micro_batch_size"),
    [("no", 4), pytest.param("bf16", None, marks=pytest.mark.slow)],
)
def test_two_processes_train_as_one(place, mixed_precision: str, micro_batch_size: int | None):
    """Twenty steps with dropout: the same bytes."""
    found = []
    for processes in (1, 2):
        place(
            f"{processes}",
            params_of(
                processes, mixed_precision=mixed_precision, micro_batch_size=micro_batch_size
            ),
        )
        done = run("stages.train_patchdm")
        assert done.returncode == 0, done.stderr
        assert len(losses()) == STEPS
        found.append(bytes_of(PATCHDM, PATCHDM_CURVES))
    one, two = found
    assert two == one


@pytest.mark.parametrize(
    ("threads", "train", "processes"),
    [
        (2, {}, 2),
        (1, {}, 1),
        (5, {}, 4),  # of 16
        (4, {"micro_batch_size": 8}, 2),
        (4, {"micro_batch_size": 16}, 1),
        (2, {"images_seen": 3200}, 1),  # over before a process has started
    ],
)
def test_the_threads_of_a_cpu_become_processes(threads: int, train: dict, processes: int):
    values = load_params(REPO / "presets/demo.yaml").model_dump()
    changes = {"base": {"threads": threads}, "train": train}
    params = Params.model_validate(
        {name: section | changes.get(name, {}) for name, section in values.items()}
    )
    assert processes_of(params) == processes


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    values = load_params(REPO / "presets/demo.yaml").model_dump()
    values["machine"]["processes"] = 4
    with pytest.raises(PatchDMError, match="processes is 4, expected at most the 2 GPUs here"):
        processes_of(Params.model_validate(values))


def test_processes_part_at_the_end(place, monkeypatch: pytest.MonkeyPatch):
    """Or NCCL warns of each."""
    ended: list[bool] = []
    monkeypatch.setattr(Accelerator, "end_training", lambda _: ended.append(PATCHDM.exists()))
    place("one", params_of(images_seen=8))
    train_patchdm(params_of(images_seen=8))
    assert ended == [False]


def test_what_a_process_says_after_its_error_is_no_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "failing.py").write_text(
        "import os, sys, time\n"
        "if os.environ['RANK'] == '0': time.sleep(60)\n"
        "sys.exit('error: a reason\\n[W] a warning')"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(PatchDMError, match="^process 1 of 2: a reason$"):
        train_together(["failing"], 2)


@pytest.mark.slow
def test_accelerate_launches_it_too(place):
    place("one", params_of())
    train_patchdm(params_of())
    expected = losses()
    place("two", params_of())
    two = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    done = run(*two, "-m", "stages.train_patchdm")
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(losses(), expected, rtol=1e-5)


@pytest.mark.slow
def test_killed_at_random_it_ends_in_the_same_bytes(place):
    """Any of the two, or the one that started them; nobody survives, nothing is lost."""
    params = params_of(2, images_seen=960, log_every=80)
    place("whole", params)
    assert run("stages.train_patchdm").returncode == 0
    whole = bytes_of(PATCHDM, PATCHDM_CURVES)
    place("killed", params)
    for victim in ("rank", "parent", "rank"):
        before = set(STATE.rglob("??????????-*.pt"))
        process = start("train_patchdm")
        wait_for(process, lambda before=before: set(STATE.rglob("??????????-*.pt")) - before)
        time.sleep(random.uniform(0, 0.3))
        ranks = family(process)
        assert len(ranks) == 2
        (process if victim == "parent" else random.choice(ranks)).kill()
        _, errors = process.communicate(timeout=60)
        if victim == "rank":
            assert errors.strip().splitlines()[-1].endswith("was killed by signal 9")
        assert_none_left(ranks)
    assert run("stages.train_patchdm").returncode == 0
    assert bytes_of(PATCHDM, PATCHDM_CURVES) == whole


@pytest.mark.slow
def test_sigterm_saves_once_and_says_so_in_one_line(place):
    place("stopped", params_of(2, images_seen=4800, checkpoint_every=4800))
    process = start("train_patchdm")
    wait_for(process, lambda: list(STATE.rglob("loss.tsv")))
    ranks = family(process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert errors.count("error: ") == 1
    assert errors.strip().splitlines()[-1].endswith(" of 4800; run again to go on")
    assert_none_left(ranks)
    assert len(list(STATE.rglob("??????????-*.pt"))) == 1


@pytest.mark.slow
def test_a_number_of_processes_that_does_not_fit(place):
    place("three", params_of())
    three = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "3"]
    done = run(*three, "-m", "stages.train_patchdm")
    assert done.returncode != 0
    assert (
        "error: found 3 processes, expected divisors of train.batch_size / "
        "train.micro_batch_size = 8 / 4"
    ) in done.stderr


def test_a_launcher_that_starts_one_process_of_several(place, monkeypatch: pytest.MonkeyPatch):
    """As `accelerate launch --num_processes 2` does where there is no GPU."""
    place("alone", params_of())
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    done = run("stages.train_patchdm")
    assert done.returncode == 1
    assert done.stderr.startswith("error: one process was launched and told of others")
