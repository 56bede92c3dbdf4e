"""Sampling: image i depends on seed i alone, and a network samples the way it was trained."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from patchdm.devices import cast
from patchdm.diffusion.schedules import latent_scheduler, paper_scheduler
from patchdm.errors import PatchDMError
from patchdm.formats.shards import read_image, read_manifest
from patchdm.formats.tensors import to_uint8
from patchdm.models import LatentMLP
from patchdm.pipeline import PatchDMPipeline
from patchdm.sampling import predict_eps
from patchdm.sampling.generate import generate
from patchdm.sampling.seeds import model_hash
from patchdm.sampling.solve import generators
from patchdm.sampling.solvers import solver
from patchdm.sampling.tilings import Step, patches_of_step
from tests.networks import awake, small_unet
from tests.photographs import contents

P, HEIGHT, WIDTH = 8, 16, 24
MODES = ["feature", "none", "pixel-fixed", "pixel-random"]
CENTRE = (P // 2, P // 2)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Folders as the training stages write them: `image` for each mode, and `latent`."""
    for mode in MODES:
        small_unet(collage=mode).save_pretrained(tmp_path / mode / "unet")
        paper_scheduler().save_pretrained(tmp_path / mode / "scheduler")
    torch.manual_seed(1)
    latent = awake(LatentMLP(code_dim=6, layers=2, hidden=8, time_channels=8))
    latent.save_pretrained(tmp_path / "latent/latent")
    latent_scheduler().save_pretrained(tmp_path / "latent/scheduler")
    return tmp_path


def load(models: Path, mode: str, *, latent: bool = True) -> PatchDMPipeline:
    pipe = PatchDMPipeline.from_stages(models / mode, models / "latent" if latent else None)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def sample(pipe: PatchDMPipeline, seeds: list[int], **options: Any) -> Tensor:
    return pipe(
        len(seeds),
        HEIGHT,
        WIDTH,
        generator=generators(seeds),
        output_type="latent",
        **{"num_inference_steps": 3, "latent_num_inference_steps": 2} | options,
    ).images


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("latent", [True, False])
def test_image_i_depends_on_seed_i_alone(models: Path, mode: str, latent: bool):
    pipe = load(models, mode, latent=latent)
    together = sample(pipe, [5, 6, 7])
    assert together.shape == (3, 3, HEIGHT, WIDTH)
    rounding = {"atol": 1e-4, "rtol": 0.0}  # 6e-6 was found
    assert_close(sample(pipe, [7]), together[2:], **rounding)
    assert_close(sample(pipe, [6, 5]).flip(0), together[:2], **rounding)
    assert not torch.allclose(together[0], together[1], atol=0.1)


def test_a_loaded_model_samples_the_way_it_was_trained(models: Path):
    images = {mode: sample(load(models, mode), [3]) for mode in MODES}
    blend = sample(load(models, "feature"), [3], tiling="blend")
    everything = [*images.values(), blend]
    for i, one in enumerate(everything):
        for other in everything[i + 1 :]:
            assert not torch.allclose(one, other, atol=1e-3)


def test_sampling_steps_with_the_tilings_of_the_mode(models: Path):
    """Two DDIM steps by hand: eps is recomputed from the clipped x0 (PAPER, Sampling)."""
    pipe = load(models, "pixel-fixed", latent=False)
    images = sample(pipe, [0], num_inference_steps=2)
    x_t = torch.randn(1, 3, HEIGHT, WIDTH, generator=generators([0])[0])
    a = pipe.scheduler.alphas_cumprod
    with torch.no_grad():
        for t, previous, tiling in ((500, a[0], (0, 0)), (0, torch.tensor(1.0), CENTRE)):
            eps = predict_eps(pipe.unet, x_t, torch.tensor([t]), None, tiling=tiling)
            x0 = ((x_t - (1 - a[t]).sqrt() * eps) / a[t].sqrt()).clamp(-1, 1)
            eps = (x_t - a[t].sqrt() * x0) / (1 - a[t]).sqrt()
            x_t = previous.sqrt() * x0 + (1 - previous).sqrt() * eps
    assert_close(images, x_t, atol=1e-4, rtol=0.0)


def tilings(mode: str, tiling: str = "shifted", steps: int = 50) -> list[object]:
    unet = small_unet(collage=mode)
    return [
        patches_of_step(
            unet.config.collage, unet.config.patch_size, tiling, Step(torch.tensor(0), index, steps)
        )
        for index in range(steps)
    ]


def test_tilings_of_feature_collage():
    assert set(tilings("feature")) == {"shifted"}
    assert tilings("feature", "blend", 8) == 6 * ["shifted"] + 2 * ["blend"]
    assert tilings("feature", "blend", 5) == 3 * ["shifted"] + 2 * ["blend"]
    assert tilings("feature", "blend", 1) == ["blend"]


def test_tilings_without_collage():
    assert set(tilings("none")) == {CENTRE}
    assert tilings("pixel-fixed", steps=4) == [(0, 0), CENTRE, (0, 0), CENTRE]


def test_tilings_of_random_offsets():
    drawn = tilings("pixel-random", steps=400)
    assert drawn[:50] == tilings("pixel-random", steps=50)
    ys, xs = zip(*drawn, strict=True)
    assert set(ys) == set(xs) == set(range(1 - P // 2, P // 2 + 1))
    assert len(set(drawn)) == P * P
    counts = [drawn.count(offset) for offset in set(drawn)]
    assert max(counts) < 20  # 6 on average


@pytest.mark.parametrize("mode", MODES[1:])
def test_tilings_are_of_feature_collage(mode: str):
    assert tilings(mode, "blend", 6) == tilings(mode, steps=6)


def generated(pipe: PatchDMPipeline, out: Path, seeds: range = range(8), **changes: Any) -> bool:
    options = {
        "height": HEIGHT,
        "width": WIDTH,
        "num_inference_steps": 2,
        "latent_num_inference_steps": 2,
        "shard_size": 8,
        "batch_size": 8,
        "format": "png",
        "key": {"params_hash": "abc"},
        "on_progress": lambda _: None,
    }
    return generate(pipe, seeds, out, **options | changes)


@pytest.mark.parametrize("solver_name", ["ddim", "unipc"])
@pytest.mark.parametrize("mixed_precision", ["no", "bf16"])
def test_batches_and_shards_leave_no_trace_in_an_image(
    models: Path, tmp_path: Path, solver_name: str, mixed_precision: str
):
    pipe = load(models, "feature")
    cast(pipe.unet, mixed_precision)
    pipe.scheduler = solver(pipe.scheduler, solver_name)
    found = []
    for number, sizes in enumerate(
        [
            {"batch_size": 1},
            {"batch_size": 32},
            {"batch_size": 3, "shard_size": 1},
            {"shard_size": 5, "format": "webdataset"},
            {"seeds": range(2, 8), "batch_size": 4},
        ]
    ):
        out = tmp_path / str(number)
        assert generated(pipe, out, **sizes)
        manifest = read_manifest(out)
        found.append(dict(zip(manifest["seed"], manifest["sha256"], strict=True)))
    *same, part = found
    assert len(set(same[0].values())) == 8
    assert all(hashes == same[0] for hashes in same)
    assert part == {seed: same[0][seed] for seed in range(2, 8)}


def test_threads_leave_no_trace_either(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Two threads share the groups of seeds, as processes or, where it is soon over, one by one."""
    module, started = sys.modules["patchdm.sampling.generate"], []
    shared = module.shared

    def watched(function: Callable, workers: int, **options: Any):
        started.append(workers)
        return shared(function, workers, **options)

    monkeypatch.setattr(module, "shared", watched)
    pipe, seeds, found = load(models, "feature"), range(40), []
    for threads, worth in ((1, 0), (2, 0), (2, module.WORTH_A_START)):
        monkeypatch.setattr(module, "WORTH_A_START", worth)
        torch.set_num_threads(threads)
        try:
            assert generated(pipe, tmp_path / str(len(found)), seeds, shard_size=24)
            assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(1)
        found.append(read_manifest(tmp_path / str(len(found)))["sha256"].tolist())
    assert started == [2]
    assert found[1:] == found[:1] * 2


def test_a_generated_image_is_the_pipelines(models: Path, tmp_path: Path):
    pipe = load(models, "feature")
    generated(pipe, tmp_path / "out", range(3, 6), guidance_scale=0.5, positions="extrapolate")
    image = sample(pipe, [4], num_inference_steps=2, guidance_scale=0.5)
    np.testing.assert_array_equal(read_image(tmp_path / "out", 4), to_uint8(image)[0])
    settings = json.loads((tmp_path / "out/samples.json").read_text())
    assert settings == {
        "first_seed": 3,
        "num_images": 3,
        "height": HEIGHT,
        "width": WIDTH,
        "num_inference_steps": 2,
        "latent_num_inference_steps": 2,
        "guidance_scale": 0.5,
        "positions": "extrapolate",
        "shard_size": 8,
        "format": "png",
        "solver": "DDIMScheduler",
        "model": model_hash(pipe),
        "params_hash": "abc",
    }


@pytest.mark.parametrize(
    "change",
    [
        {"num_inference_steps": 3},
        {"key": {"params_hash": "other"}},
        {"seeds": range(9)},
        {"tiling": "blend"},
    ],
    ids=str,
)
def test_a_folder_of_other_samples_is_refused(models: Path, tmp_path: Path, change: dict[str, Any]):
    pipe = load(models, "feature")
    generated(pipe, tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(PatchDMError, match="samples.json: the folder was begun with"):
        generated(pipe, tmp_path / "out", **change)
    with torch.no_grad():
        pipe.latent.scale.std[3] *= 1.01
    with pytest.raises(PatchDMError, match="samples.json: the folder was begun with model"):
        generated(pipe, tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_memory_and_batches_may_change_on_the_way(models: Path, tmp_path: Path):
    pipe = load(models, "feature")
    generated(pipe, tmp_path / "whole")
    generated(pipe, tmp_path / "out")
    (tmp_path / "out/000000/000006.png").unlink()
    generated(pipe, tmp_path / "out", batch_size=2, rows_per_chunk=1, cols_per_chunk=2)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_every_part_of_the_model_is_in_its_hash(models: Path):
    def changed(change: Callable[[PatchDMPipeline], object] = lambda _: None) -> str:
        pipe = load(models, "feature")
        with torch.no_grad():
            change(pipe)
        return model_hash(pipe)

    def use_unipc(pipe: PatchDMPipeline) -> None:
        pipe.scheduler = solver(pipe.scheduler, "unipc")

    changes = [
        lambda pipe: next(pipe.unet.parameters()).view(-1)[0].add_(1e-3),
        lambda pipe: next(pipe.latent.parameters()).view(-1)[0].add_(1e-3),
        lambda pipe: pipe.unet.half(),
        lambda pipe: pipe.latent_scheduler.register_to_config(beta_end=0.01),
        use_unipc,
    ]
    assert len({changed(), *map(changed, changes)}) == 1 + len(changes)
    assert changed() == changed(lambda pipe: pipe.unet.to(memory_format=torch.contiguous_format))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": range(5, 5)}, "seeds: found 5:5, expected FIRST:END with 0 <= FIRST < END"),
        ({"seeds": range(-1, 3)}, "seeds: found -1:3, expected"),
        ({"seeds": range(2**63)}, "END <= 9223372036854775807"),
        ({"shard_size": 0}, "`shard_size` is 0, expected a whole number of 1 or more"),
        ({"batch_size": 0}, "`batch_size` is 0, expected a whole number of 1 or more"),
        ({"format": "jpeg"}, "`format` is 'jpeg', expected png, webdataset"),
        ({"height": HEIGHT + 1}, "height is 17, expected multiples of the patch size 8"),
        ({"width": 0}, "width is 0, expected multiples of the patch size 8"),
        (
            {"num_inference_steps": 0},
            "`num_inference_steps` is 0, expected a whole number of 1 or more",
        ),
        ({"num_inference_steps": 1001}, "1001"),
        ({"rows_per_chunk": 0}, "`rows_per_chunk` is 0, expected a whole number of 1 or more"),
        ({"cols_per_chunk": -1}, "`cols_per_chunk` is -1, expected a whole number of 1 or more"),
        ({"guidance_scale": -0.1}, "`guidance_scale` is -0.1, expected 0 or more"),
        ({"guidance_scale": float("nan")}, "`guidance_scale` is nan, expected 0 or more"),
        ({"tiling": "tiles"}, "`tiling` is 'tiles', expected shifted, blend"),
        ({"positions": "left"}, "`positions` is 'left', expected extrapolate, rescale"),
        ({"positions": "rescale"}, "`positions` is 'rescale', but `unet` has no sample_size"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    models: Path, tmp_path: Path, change: dict[str, Any], message: str
):
    with pytest.raises(PatchDMError, match=re.escape(message)) as error:
        generated(load(models, "feature"), tmp_path / "out", **change)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()
