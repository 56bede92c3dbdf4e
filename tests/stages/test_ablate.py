"""A cell of the ablation runs the run's own stages in a folder of its own."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest

from patchdm.ablation import variant_params
from patchdm.errors import PatchDMError
from stages import _cells
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
)
from stages.ablate_evaluate import ablate_evaluate
from stages.ablate_train import ablate_train
from stages.cache_embeddings import cache_embeddings
from stages.evaluate import evaluate
from stages.reference import reference
from stages.sample import sample
from stages.train_latent import train_latent
from stages.train_patchdm import train_patchdm
from tests.conftest import REPO
from tests.photographs import contents
from tests.stages.models import kill_amid, small_params, start, wait_for, write_inputs

PARAMS = small_params(sample={"num_images": 4, "tiling": "blend"})
CHECKPOINT = "??????????-*.pt"


@pytest.fixture
def repository(tmp_dir: Path, landscapes: Path) -> Path:
    """Work in a folder with the code, params.yaml, patch store and features."""
    for code in _cells.CODE:
        (tmp_dir / code).symlink_to(REPO / code)
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
def test_sigterm_lets_the_inner_stage_save():
    process = start("ablate_train", "full", "0")
    wait_for(process, lambda: list(STATE.rglob("loss.tsv")))
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()  # returns when the inner stage has ended too
    assert process.returncode == 128 + signal.SIGTERM
    assert "run again to go on" in errors
    assert "Traceback" not in errors
    assert list(STATE.rglob(CHECKPOINT))


@pytest.mark.usefixtures("repository")
def test_a_failing_inner_stage_fails_the_cell(capfd: pytest.CaptureFixture[str]):
    params = small_params(train={"batch_size": 19})
    with pytest.raises(PatchDMError, match=r"^stages.train_patchdm in \S+: ended with status 1"):
        ablate_train(params, "full-0")
    assert "error: train.batch_size is 19: found 18 training images" in capfd.readouterr().err
    assert not ABLATIONS.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "arguments: found [], expected a variant and a seed"),
        (["full", "-1"], "arguments: found ['full', '-1'], expected a variant and a seed"),
        (["no", "0"], "variant no: unknown, expected full, no-position, pixel-fixed, "),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
):
    monkeypatch.setattr(sys, "argv", ["stages/ablate_train.py", *arguments])
    monkeypatch.setattr(_cells, "run_command", lambda _name, run, _outputs: run(PARAMS))
    with pytest.raises(PatchDMError, match=re.escape(message)):
        _cells.run_cell_stage(ablate_train)
