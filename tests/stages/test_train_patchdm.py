"""The stage train_patchdm: killed at any moment, it ends in the bytes of an undisturbed run."""

from __future__ import annotations

import json
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from patchdm.errors import PatchDMError
from patchdm.formats.vectors import read_vectors, write_vectors
from patchdm.models import CodeTable, PatchUNet, SemanticEncoder
from patchdm.models.build import build_unet
from stages._common import FEATURES, PATCHDM, PATCHDM_CURVES, STATE
from stages.train_patchdm import train_patchdm
from tests.stages.models import bytes_of, kill_amid, small_params, start, wait_for, write_inputs

CHECKPOINT = "??????????-*.pt"
LONG = {"images_seen": 480, "log_every": 40, "checkpoint_every": 40, "sheet_every": 320}


def test_it_writes_averaged_weights_schedule_and_curves(tmp_dir: Path, landscapes: Path) -> None:
    params = small_params()
    write_inputs(tmp_dir, landscapes, params)
    train_patchdm(params)

    assert sorted(path.name for path in PATCHDM.iterdir()) == ["code_table", "scheduler", "unet"]
    unet = PatchUNet.from_pretrained(PATCHDM / "unet")
    (checkpoint,) = sorted(STATE.rglob(CHECKPOINT))[-1:]
    state = torch.load(checkpoint, weights_only=True)
    weights = list(unet.parameters())
    assert len(weights) == len(state["ema"]) - 1  # and the code table
    for value, average in zip(weights, state["ema"], strict=False):
        assert torch.equal(value, average)
    torch.manual_seed(params.base.seed)
    assert not torch.equal(unet.encoder.stem.weight, build_unet(params.model).encoder.stem.weight)

    curves = bytes_of(PATCHDM_CURVES)
    summary = json.loads(curves[f"{PATCHDM_CURVES}/metrics.json"])
    assert summary.keys() >= {"loss", "loss_shifted", "loss_plain", "learning_rate", "step"}
    points = curves[f"{PATCHDM_CURVES}/plots/metrics/loss.tsv"].decode().splitlines()
    assert [line.split("\t")[0] for line in points] == ["step", "16", "32", "48", "64"]
    sheets = [name for name in curves if name.endswith(".png")]
    assert sheets == [f"{PATCHDM_CURVES}/sheets/000000064.png"]


def test_codes_start_as_the_features_of_their_images(tmp_dir: Path, landscapes: Path) -> None:
    params = small_params(train={"code_learning_rate": 1e-12})
    write_inputs(tmp_dir, landscapes, params)
    train_patchdm(params)
    table = CodeTable.from_pretrained(PATCHDM / "code_table")
    _, features, metadata = read_vectors(FEATURES)
    start_codes = table.start(torch.tensor(features))
    torch.testing.assert_close(table.codes.detach(), start_codes, atol=1e-5, rtol=0.0)
    assert start_codes.std() > 0.5
    assert table.config.backbone == metadata["backbone"]


def test_killed_twice_it_ends_in_the_same_bytes(
    tmp_path: Path, landscapes: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    params = small_params(train=LONG)
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        write_inputs(Path(), landscapes, params)
        if name == "killed":
            kill_amid("train_patchdm", CHECKPOINT)
            kill_amid("train_patchdm", CHECKPOINT)
            assert not PATCHDM.exists()
            assert not PATCHDM_CURVES.exists()
        train_patchdm(params)
        resumed = "train_patchdm: resumed at " in capfd.readouterr().err
        assert resumed == (name == "killed")
    killed = bytes_of(PATCHDM, PATCHDM_CURVES)
    monkeypatch.chdir(tmp_path / "whole")
    whole = bytes_of(PATCHDM, PATCHDM_CURVES)
    assert killed.keys() == whole.keys()
    assert [name for name, content in whole.items() if killed[name] != content] == []


def test_sigterm_saves_and_ends_with_one_line(tmp_dir: Path, landscapes: Path) -> None:
    params = small_params(train=LONG | {"checkpoint_every": 480})
    write_inputs(tmp_dir, landscapes, params)
    process = start("train_patchdm")
    wait_for(process, lambda: list(STATE.rglob("loss.tsv")))
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 1
    *_, last = errors.strip().splitlines()
    assert last.startswith("error: stopped after ")
    assert last.endswith(" of 480; run again to go on")
    assert "Traceback" not in errors
    (saved,) = STATE.rglob(CHECKPOINT)
    assert int(saved.name[:10]) * 8 == int(last.split()[3])
    assert not PATCHDM.exists()


def test_a_second_run_of_a_finished_training_writes_it_again(
    tmp_dir: Path, landscapes: Path
) -> None:
    params = small_params()
    write_inputs(tmp_dir, landscapes, params)
    train_patchdm(params)
    first = bytes_of(PATCHDM, PATCHDM_CURVES)
    shutil.rmtree(PATCHDM)
    shutil.rmtree(PATCHDM_CURVES)
    train_patchdm(params)
    assert bytes_of(PATCHDM, PATCHDM_CURVES) == first


def test_other_params_never_resume(tmp_dir: Path, landscapes: Path) -> None:
    params = small_params()
    write_inputs(tmp_dir, landscapes, params)
    train_patchdm(params)
    train_patchdm(small_params(train={"learning_rate": 2e-3}))
    assert len(list((STATE / "train_patchdm").iterdir())) == 2


def test_the_collage_mode_is_kept_with_the_network(tmp_dir: Path, landscapes: Path) -> None:
    params = small_params(model={"collage": "pixel-random"})
    write_inputs(tmp_dir, landscapes, params)
    train_patchdm(params)
    assert PatchUNet.from_pretrained(PATCHDM / "unet").config.collage == "pixel-random"


def test_the_encoder_trains_along(tmp_dir: Path, landscapes: Path) -> None:
    params = small_params(
        model={"code": "encoder"}, train={"code_dropout": 0.1, "position_dropout": 0.5}
    )
    write_inputs(tmp_dir, landscapes, params)
    train_patchdm(params)
    encoder = SemanticEncoder.from_pretrained(PATCHDM / "encoder")
    assert encoder.head[-2].weight.shape == (16, 32, 1, 1)
    assert not (PATCHDM / "code_table").exists()


def test_fewer_images_than_the_batch(tmp_dir: Path, landscapes: Path) -> None:
    params = small_params(train={"batch_size": 19})
    write_inputs(tmp_dir, landscapes, params)
    with pytest.raises(PatchDMError) as error:
        train_patchdm(params)
    assert str(error.value) == (
        "train.batch_size is 19: found 18 training images, expected 19 or more (more photographs, "
        "or a smaller number here or of data.test_fraction)"
    )


def test_more_memory_than_the_device_has(tmp_dir: Path, landscapes: Path) -> None:
    params = small_params(machine={"device_memory": 0.001})
    write_inputs(tmp_dir, landscapes, params)
    with pytest.raises(PatchDMError, match=r"training needs \S+ GB, expected at most 0\.0009,"):
        train_patchdm(params)
    assert not (STATE / "train_patchdm").exists()


def test_features_of_other_images_are_refused(tmp_dir: Path, landscapes: Path) -> None:
    params = small_params()
    write_inputs(tmp_dir, landscapes, params)
    write_vectors(FEATURES, np.arange(5), np.ones((5, 16)), {"backbone": "none"})
    with pytest.raises(PatchDMError, match=r"features\.parquet: found 5 images, expected the 18"):
        train_patchdm(params)


@pytest.mark.slow
def test_a_compiled_training_says_what_that_took(
    tmp_dir: Path, landscapes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And learns the same, up to rounding; checkpoints and names of weights are the same too."""
    params = small_params()
    write_inputs(tmp_dir, landscapes, params)
    train_patchdm(params)
    expected = PatchUNet.from_pretrained(PATCHDM / "unet").state_dict()
    train_patchdm(small_params(train={"compile": True}))
    assert re.search(r"warning: train\.compile: the first step took \d+ s", capsys.readouterr().err)
    for name, value in PatchUNet.from_pretrained(PATCHDM / "unet").state_dict().items():
        torch.testing.assert_close(value, expected[name], atol=1e-3, rtol=0)


def test_less_memory_changes_nothing_but_rounding(tmp_dir: Path, landscapes: Path) -> None:
    params = small_params(model={"dropout": 0.1})
    write_inputs(tmp_dir, landscapes, params)
    train_patchdm(params)
    expected = PatchUNet.from_pretrained(PATCHDM / "unet").state_dict()
    train_patchdm(
        small_params(
            model={"dropout": 0.1}, train={"gradient_checkpointing": True}, machine={"loaders": 1}
        )
    )
    for name, value in PatchUNet.from_pretrained(PATCHDM / "unet").state_dict().items():
        torch.testing.assert_close(value, expected[name], atol=1e-5, rtol=0)
