"""Peaks of memory: against real tensors, and against those of a GPU that is not there."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from patchdm import peaks
from patchdm.cli.plan import PAPER
from patchdm.config import load_params
from patchdm.devices import device_memory
from patchdm.diffusion.schedules import image_scheduler, latent_scheduler
from patchdm.errors import PatchDMError
from patchdm.formats.patch_store import PatchStore
from patchdm.models.build import build_code, build_latent, build_unet
from patchdm.peaks import LiveBytes, Peaks, check_memory
from patchdm.pipeline import PatchDMPipeline
from patchdm.sampling.denoise import predict_eps
from patchdm.sampling.seeds import sampling_options
from patchdm.training.image import ImageTraining
from patchdm.training.sheets import IMAGES, sample_sheet
from tests.conftest import REPO
from tests.fake_cuda import fake_cuda
from tests.networks import small_unet
from tests.stages.tiny import tiny_params, write_tiny_store
from tests.training.whole import train

close = partial(pytest.approx, rel=0.15)


def test_bytes_count_once_and_while_they_live():
    with LiveBytes("cpu") as live:
        x = torch.empty(1000)
        y = x[:500].view(20, 25)
        assert live.now == 4000
        z = torch.cat([y, y])
        del x
        assert live.now == 8000
        del y, z
    assert (live.now, live.peak) == (0, 8000)


SHALLOW = {"channels": [64, 128], "res_blocks": 1, "attention_levels": [1]}


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("ffhq256", SHALLOW),
        pytest.param("ffhq256", {}, marks=pytest.mark.slow),
        pytest.param("ffhq1024", {}, marks=pytest.mark.slow),
    ],
)
def test_sampling_takes_what_a_gpu_would(name: str, model: dict[str, Any]):
    """Guided, by an encoder's model; and by a table's, whose canvases are large."""
    params = load_params(REPO / f"presets/{name}.yaml")
    params = params.model_copy(update={"model": params.model.model_copy(update=model)})
    found, batch = peaks.peaks(params, 1000), params.sample.batch_size
    options = sampling_options(params) | {"num_inference_steps": 2, "output_type": "latent"}
    with fake_cuda(values=False) as device:
        schedulers = image_scheduler(params.diffusion), latent_scheduler(params.latent.beta)
        with LiveBytes("cuda") as live:
            with device:
                unet, code = build_unet(params.model), build_code(params.model, 1000)
                latent = build_latent(params.latent, params.model.code_dim)
            pipe = PatchDMPipeline(unet, schedulers[0], latent, schedulers[1])
            pipe.set_progress_bar_config(disable=True)
            pipe(batch, params.data.height, params.data.width, **options)
        assert found.sampling(batch) == close(live.peak)
        with LiveBytes("cuda") as live:
            size = (params.data.height, params.data.width)
            numbers = torch.zeros(IMAGES, dtype=torch.long)
            shown = numbers if params.model.code == "table" else torch.zeros(IMAGES, 3, *size)
            average = ImageTraining(unet.eval(), code, schedulers[0])
            sample_sheet(average, shown, size, num_steps=2)
        assert found.sheet - found.state == close(live.peak)


@pytest.mark.parametrize("code", ["table", "encoder"])
@pytest.mark.parametrize("precision", ["no", pytest.param("bf16", marks=pytest.mark.slow)])
def test_training_takes_what_its_loop_takes(
    tmp_path: Path, landscapes: Path, code: str, precision: str
):
    params = tiny_params(
        model={"code": code, "channels": [32, 64], "dropout": 0.1},
        train={"batch_size": 16, "micro_batch_size": 8, "images_seen": 32}
        | {"mixed_precision": precision},
    )
    write_tiny_store(tmp_path / "data/patches", landscapes)
    between: list[int] = []
    with LiveBytes("cpu") as live:
        store = PatchStore(tmp_path / "data/patches")
        train(params, store, tmp_path, progress=lambda _: between.append(live.now))
    found = peaks.peaks(params, 18)
    assert found.training == close(live.peak)
    assert found.state == close(between[0])


@pytest.mark.parametrize("tiling", ["shifted", "blend"])
@pytest.mark.parametrize(
    ("height", "width"),
    [
        (32, 4096),
        pytest.param(1024, 64, marks=pytest.mark.slow),
        pytest.param(512, 2048, marks=pytest.mark.slow),
    ],
)
def test_a_prediction_takes_what_it_takes_on_a_cpu(tiling: str, height: int, width: int):
    unet = small_unet()
    with torch.no_grad(), LiveBytes("cpu") as live:
        x_t = torch.zeros(1, 3, height, width)
        predict_eps(unet, x_t, torch.zeros(1), torch.zeros(1, 6), tiling=tiling)
    found = peaks.predicting(unet, height, width, tiling=tiling)
    assert found == close(live.peak - 2 * x_t.nbytes)


def test_images_add_up():
    found = Peaks(state=1, training=1, sheet=1, first=10**9, each=10**8)
    assert found.sampling(5) == 1.4 * 10**9
    assert found.most(2) == 9  # 1.8 GB
    assert found.sampling(found.most(2)) <= 0.9 * 2e9 < found.sampling(found.most(2) + 1)
    assert found.most(1) == 0


GIGA = {"state": 10**9, "training": 10**9, "sheet": 10**9, "first": 10**9, "each": 10**9}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"training": 20 * 10**9},
            "train.micro_batch_size is 16: training needs 20 GB, expected at most 9, 90% of the",
        ),
        ({"training": 20 * 10**9}, "use a smaller one, or train.gradient_checkpointing"),
        ({"sheet": 10**10}, "a sheet of samples next to the training needs 10 GB, expected at"),
        ({"each": 3 * 10**9}, "sample.batch_size is 4: sampling needs 10 GB, expected at most 9,"),
        ({"each": 3 * 10**9}, "(machine.device_memory): use 3 or fewer"),
        ({"first": 10**10}, "(machine.device_memory): use machine.rows_per_chunk"),
    ],
)
def test_what_does_not_fit_is_refused(
    changes: dict[str, int], message: str, monkeypatch: pytest.MonkeyPatch
):
    params = tiny_params(train={"micro_batch_size": 16}, sample={"batch_size": 4})
    monkeypatch.setattr(peaks, "peaks", lambda *_: Peaks(**GIGA | changes))
    with pytest.raises(PatchDMError, match=re.escape(message)):
        check_memory(params, 100, 10.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", PAPER)
def test_paper_presets_fit_24_gb(name: str):
    params = load_params(REPO / f"presets/{name}.yaml")
    check_memory(params, 2 * PAPER[name].photographs, 24)


def test_what_fits_is_not(monkeypatch: pytest.MonkeyPatch):
    check_memory(tiny_params(), 18, 1.0)
    assert device_memory(24.0) == 24.0
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_memory(None) is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    properties: Any = type("Properties", (), {"total_memory": 80 * 10**9})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    assert device_memory(None) == 80
