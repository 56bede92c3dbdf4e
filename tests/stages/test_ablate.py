"""A cell of the ablation calls the run's own stages in a folder of its own."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest

from patchdm.ablation import VARIANTS, variant_params
from patchdm.errors import PatchDMError
from patchdm.training import loop
from stages import _cells
from stages import ablate_train as module
from stages._common import (
    ABLATION_METRICS,
    ABLATIONS,
    LATENT,
    LATENT_CURVES,
    METRICS,
    PATCHDM,
    PATCHDM_CURVES,
    SAMPLES,
    STATE,
    locked,
)
from stages._common import PARAMS as PARAMS_FILE
from stages.ablate_evaluate import ablate_evaluate
from stages.ablate_sample import ablate_sample
from stages.ablate_train import ablate_train
from stages.cache_embeddings import cache_embeddings
from stages.evaluate import evaluate
from stages.reference import reference
from stages.sample import sample
from stages.train_latent import train_latent
from stages.train_patchdm import train_patchdm
from tests.photographs import contents
from tests.stages.models import (
    kill_amid,
    small_params,
    start,
    wait_for,
    write_inputs,
    write_params,
)

PARAMS = small_params(sample={"num_images": 4, "tiling": "blend"})
CHECKPOINT = "??????????-*.pt"


@pytest.fixture
def repository(tmp_dir: Path, landscapes: Path) -> Path:
    """Work in a folder with params.yaml, patch store and features."""
    write_inputs(tmp_dir, landscapes, PARAMS)
    return tmp_dir


def trained(cell: str) -> dict[str, bytes]:
    """Return what training the cell wrote; optimiser state is no part of it."""
    folder = ABLATIONS / cell
    return contents(folder / "models") | {
        f"curves/{k}": v for k, v in contents(folder / "curves").items()
    }


@pytest.mark.slow
@pytest.mark.usefixtures("repository")
def test_the_full_variant_at_the_runs_seed_is_the_run():
    full = variant_params(PARAMS, "full", PARAMS.base.seed)
    for stage in (train_patchdm, cache_embeddings, train_latent, sample, reference, evaluate):
        stage(PARAMS)
    run = {folder: contents(folder) for folder in (PATCHDM, LATENT, SAMPLES)}
    run |= {folder: contents(folder) for folder in (PATCHDM_CURVES, LATENT_CURVES)}
    metrics = json.loads(METRICS.read_text())

    ablate_train(full, "full-0")
    cell = ABLATIONS / "full-0"
    assert contents(cell / "models/patchdm") == run[PATCHDM]
    assert contents(cell / "models/latent") == run[LATENT]
    assert contents(cell / "curves/patchdm") == run[PATCHDM_CURVES]
    assert contents(cell / "curves/latent") == run[LATENT_CURVES]

    ablate_evaluate(full, "full-0")
    assert contents(cell / "samples") == run[SAMPLES]
    assert json.loads((ABLATION_METRICS / "full-0.json").read_text()) == metrics


@pytest.mark.usefixtures("repository")
def test_the_networks_of_full_are_sampled_in_another_way():
    ablate_train(variant_params(PARAMS, "full", 1), "full-1")
    reference(PARAMS)
    ablate_sample(variant_params(PARAMS, "training-codes", 1), "training-codes-1")
    codes = json.loads((ABLATIONS / "training-codes-1/samples/samples.json").read_text())["code"]
    metrics = json.loads((ABLATION_METRICS / "training-codes-1.json").read_text())
    assert (codes, metrics["n_samples"]) == ("training", 4)
    assert not (ABLATIONS / "training-codes-1/models").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("repository")
def test_killed_it_ends_in_the_same_bytes():
    params = variant_params(PARAMS, "no-position", 1)
    ablate_train(params, "no-position-1")
    whole = trained("no-position-1")
    assert whole
    shutil.rmtree(ABLATIONS)
    shutil.rmtree(STATE)
    kill_amid("ablate_train", CHECKPOINT, "no-position", "1")
    assert not ABLATIONS.exists()
    ablate_train(params, "no-position-1")
    assert trained("no-position-1") == whole


@pytest.mark.usefixtures("repository")
@pytest.mark.slow
def test_sigterm_lets_the_training_save():
    process = start("ablate_train", "full", "0")
    wait_for(process, lambda: list(STATE.rglob("loss.tsv")))
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 1
    assert errors.strip().splitlines()[-1].endswith("run again to go on")
    assert "Traceback" not in errors
    assert list(STATE.rglob(CHECKPOINT))
    assert not ABLATIONS.exists()


def test_a_stage_that_fails_fails_the_cell(repository: Path):
    write_params(repository / PARAMS_FILE, small_params(train={"batch_size": 19}))
    process = start("ablate_train", "full", "0")
    _, errors = process.communicate()
    assert process.returncode == 1
    assert errors.startswith("error: train.batch_size is 19: found 18 training images")
    assert len(errors.splitlines()) == 1
    assert not ABLATIONS.exists()


def test_a_killed_cell_goes_on_where_it_was_and_ends_in_the_same_bytes(
    repository: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its trainings are in two precisions, of which accelerate allows one a process."""
    params = small_params(train={"mixed_precision": "bf16"})
    write_params(repository / PARAMS_FILE, params)
    cell = variant_params(params, "full", 1)
    ablate_train(cell, "full-1")
    whole = trained("full-1")
    shutil.rmtree(ABLATIONS)
    shutil.rmtree(STATE)
    with monkeypatch.context() as patch:
        patch.setattr(module, "train_latent", _killed)
        with pytest.raises(KeyboardInterrupt):
            ablate_train(cell, "full-1")
    assert (ABLATIONS / "full-1/models/patchdm").is_dir()
    shutil.rmtree(ABLATIONS)  # as DVC does before it runs the stage again
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_step", _killed)  # the image model takes no step any more
        with pytest.raises(KeyboardInterrupt):  # the latent model does
            ablate_train(cell, "full-1")
    assert (ABLATIONS / "full-1/models/patchdm").is_dir()
    ablate_train(cell, "full-1")
    assert trained("full-1") == whole


def _killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.usefixtures("repository")
@pytest.mark.slow
def test_several_processes_train_a_cell_as_one_does(repository: Path):
    params = small_params(base={"threads": 2}, machine={"processes": 1})
    ablate_train(variant_params(params, "full", 1), "full-1")
    alone = trained("full-1")
    shutil.rmtree(ABLATIONS)
    shutil.rmtree(STATE)
    write_params(
        repository / PARAMS_FILE, small_params(base={"threads": 2}, machine={"processes": 2})
    )
    process = start("ablate_train", "full", "1")
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert trained("full-1") == alone


def test_cells_share_no_state(tmp_dir: Path):
    stages = ("ablate_train", "ablate_evaluate")
    roots = {
        str(tmp_dir / (_cells.cell_run(stage, cell, {}) / STATE))
        for stage in stages
        for cell in ("full-0", "full-1", "no-code-0")
    }
    assert len(roots) == 6
    with locked("ablate_train/full-0"), locked("ablate_train/full-1"):
        message = r"^\.state/ablate_train/full-0: another process is running stage ablate_train$"
        with pytest.raises(PatchDMError, match=message):
            ablate_train(variant_params(PARAMS, "full", 0), "full-0")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "arguments: found [], expected a variant (full, no-position, "),
        (["full", "-1"], "arguments: found ['full', '-1'], expected a variant (full, "),
        (["shifted", "0"], "arguments: found ['shifted', '0'], expected a variant (full, "),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
):
    monkeypatch.setattr(sys, "argv", ["stages/ablate_train.py", *arguments])
    monkeypatch.setattr(_cells, "run_command", lambda _name, run, *_: run(PARAMS))
    with pytest.raises(PatchDMError, match=re.escape(message)):
        _cells.run_cell_stage(ablate_train, VARIANTS)
