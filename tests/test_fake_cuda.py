"""Training and sampling on a GPU that is not there: no tensor of the CPU may meet one of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from patchdm.backbones import frozen
from patchdm.backbones.frozen import backbone_features, on_devices
from patchdm.backbones.load import load_backbone
from patchdm.choices import OutputType, Solver
from patchdm.diffusion.schedules import paper_scheduler
from patchdm.errors import PatchDMError
from patchdm.formats.patch_store import PatchStore
from patchdm.grid import PatchGrid
from patchdm.metrics.extractors import load_extractor
from patchdm.pipeline import PatchDMPipeline
from patchdm.sampling.blocks import solve_by_blocks
from patchdm.sampling.denoise import Denoiser
from patchdm.sampling.encode import CodeFit
from patchdm.sampling.solvers import solver
from patchdm.training import sheets
from patchdm.training.image import ImageTraining
from tests.fake_cuda import cuda
from tests.models.test_unet import small_unet
from tests.small_pipeline import CODE, P, images, pipeline
from tests.stages.tiny import tiny_params, write_tiny_store
from tests.training.whole import train

__all__ = ["cuda"]

QUICK = {"num_inference_steps": 2, "latent_num_inference_steps": 2, "output_type": "latent"}
NEAR = {"atol": 2e-3, "rtol": 0.0}
"""Of images in -1 .. 1 that other sums have rounded: half a grey level is 4e-3."""
TRAIN = {
    "batch_size": 4,
    "micro_batch_size": 2,
    "images_seen": 8,
    "checkpoint_every": 4,
    "sheet_every": 8,
    "log_every": 4,
    "min_snr_gamma": 5.0,
}


def test_a_tensor_of_the_cpu_is_refused(cuda: torch.device):
    there = torch.ones(2, 3, device=cuda)
    assert (there * 2).sum().item() == 12
    for meet in (lambda: there + torch.ones(3), lambda: there @ torch.ones(3, 2)):
        with pytest.raises(RuntimeError, match="found two different devices|same device"):
            meet()


@pytest.mark.parametrize(
    ("code", "precision"),
    [("table", "no"), pytest.param("table", "bf16", marks=pytest.mark.slow), ("encoder", "bf16")],
)
def test_training_stops_and_goes_on(
    cuda: torch.device,
    tmp_path: Path,
    landscapes: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    precision: str,
):
    """Of several micro-batches, with a sheet, to the average on the CPU."""
    monkeypatch.setattr(sheets, "STEPS", 2)
    params = tiny_params(
        model={"code": code}, train=TRAIN | {"mixed_precision": precision}, machine={"loaders": 0}
    )
    write_tiny_store(tmp_path / "data/patches", landscapes)
    store, progress, losses = PatchStore(tmp_path / "data/patches"), [], []
    sheet = sheets.sheet_writer(store, tmp_path, lambda *_: None)
    averages: list[torch.device] = []
    computed: set[tuple[torch.device, torch.dtype]] = set()

    def see(part: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        if part.training:  # the average is not
            computed.add((inputs[0].device, out.dtype))

    def watch(module: ImageTraining) -> None:
        next(p for p in module.modules() if isinstance(p, nn.Conv2d)).register_forward_hook(see)

    def act(seen: int, average: ImageTraining) -> None:
        averages.append(next(average.parameters()).device)
        sheet(seen, average)

    run = partial(
        train,
        params,
        store,
        tmp_path,
        watch=watch,
        report=lambda _, metrics: losses.append(metrics["loss"]),
        progress=progress.append,
        every=[(params.train.sheet_every, act)],
    )
    with pytest.raises(PatchDMError, match="stopped after 4 of 8"):
        run(stop_requested=lambda: True)
    average = run()
    assert progress == [4, 8]
    assert len(losses) == 3  # of the first step again
    assert np.isfinite(losses).all()
    assert computed == {(cuda, torch.bfloat16 if precision == "bf16" else torch.float32)}
    assert averages == [cuda]
    assert {weight.device.type for weight in average.parameters()} == {"cpu"}
    assert [file.name for file in tmp_path.glob("*.png")] == ["000000008.png"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tiling": "blend"},
        pytest.param({"tiling": "blend", "rows_per_chunk": 1}, marks=pytest.mark.slow),
        pytest.param({"tiling": "blend", "cols_per_chunk": 1}, marks=pytest.mark.slow),
        {"guidance_scale": 0.5, "guidance_interval": (100, 900)},
        {"guidance_scale": 0.5, "tiling": "blend", "rows_per_chunk": 2},
    ],
    ids=str,
)
def test_sampling(cuda: torch.device, options: dict[str, Any]):
    same_on(cuda, pipeline, lambda pipe: images(pipe, height=2 * P, **QUICK, **options))


@pytest.mark.parametrize("name", get_args(Solver))
def test_solvers(cuda: torch.device, name: str):
    scheduler = solver(paper_scheduler(), name)
    make = partial(pipeline, scheduler=scheduler)
    same_on(cuda, make, lambda pipe: images(pipe, output_type="latent", num_inference_steps=4))


def test_patches_alone(cuda: torch.device):
    make = partial(pipeline, unet=small_unet(collage="pixel-random"))
    same_on(cuda, make, lambda pipe: images(pipe, **QUICK))


@pytest.mark.parametrize("kind", get_args(OutputType))
def test_output_types(cuda: torch.device, kind: str):
    made = images(pipeline().to(cuda), **QUICK | {"output_type": kind})
    assert isinstance(made, {"np": np.ndarray, "pil": list}.get(kind, Tensor))


def test_callbacks(cuda: torch.device):
    def change(_pipe: object, _index: int, _t: Tensor, tensors: dict[str, Any]) -> dict[str, Any]:
        return {"latents": tensors["latents"] * 0.9, "cond": tensors["cond"] + 0.1}

    options: dict[str, Any] = QUICK | {"callback_on_step_end": change}
    options["callback_on_step_end_tensor_inputs"] = ["latents", "cond"]
    same_on(cuda, pipeline, lambda pipe: images(pipe, **options))


@pytest.mark.parametrize("code", ["image", "latent", "fitted"])
def test_inpainting(cuda: torch.device, code: str):
    known, mask = noisy(), torch.zeros(P, 2 * P, dtype=torch.bool)
    mask[2:9, 3:12] = True
    fit = CodeFit(lambda pixels: np.zeros((len(pixels), CODE), np.float32), 2, 3, 0.1)
    fitted = {"encoder": None} if code == "fitted" else {}
    options = QUICK | {"resamplings": 2, "guidance_scale": 0.5, "fit": fit}
    options |= {"code": code.replace("fitted", "image")}

    def restore(pipe: PatchDMPipeline) -> Tensor:
        return pipe.inpaint(known, mask, generator=seeded(), **options).images

    same_on(cuda, partial(pipeline, **fitted), restore, exact=code != "fitted")


def test_outpainting(cuda: torch.device):
    known, sides = noisy(), {"left": 3, "bottom": 5}
    same_on(
        cuda,
        pipeline,
        lambda pipe: pipe.outpaint(known, **sides, generator=seeded(), **QUICK).images,
    )


@pytest.mark.parametrize("name", ["ddim", pytest.param("dpm-solver++", marks=pytest.mark.slow)])
def test_a_canvas_elsewhere(cuda: torch.device, name: str, tmp_path: Path):
    """A canvas larger than memory lies in a file, that is, on the CPU."""
    canvases = []
    for device in (torch.device("cpu"), cuda):
        denoiser = Denoiser(
            small_unet().to(device),
            PatchGrid.of(3 * P, 2 * P, P),
            torch.ones(1, CODE, device=device),
        )
        options = {"num_steps": 3, "side": 1, "settings": {}}
        folder = tmp_path / device.type
        scheduler = solver(paper_scheduler(), name)
        canvases.append(solve_by_blocks(denoiser, scheduler, folder, seeded()[0], **options))
    assert_close(canvases[1], canvases[0], **NEAR)


def same_on(
    device: torch.device,
    make: Callable[[], PatchDMPipeline],
    sample: Callable[[PatchDMPipeline], Tensor],
    *,
    exact: bool = True,
) -> None:
    """Check that images are made on a device, and are the CPU's, unless gradients matter."""
    expected, found = sample(make()), sample(make().to(device))
    assert found.device == device
    if exact:
        assert_close(found.cpu(), expected, **NEAR)


def noisy() -> Tensor:
    """An image without flat parts: their norms differ by 1e-2 from those in float64 on a CPU."""
    return torch.rand(1, 3, P, 2 * P, generator=torch.Generator().manual_seed(5))


def seeded() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(3)]


@pytest.mark.usefixtures("cuda")
def test_features_are_shared_out_among_gpus(monkeypatch: pytest.MonkeyPatch):
    photographs = np.random.default_rng(0).integers(256, size=(5, 32, 64, 3), dtype=np.uint8)
    backbone = load_backbone("efficientnet-lite0", None, "cpu")
    expected = backbone.features(photographs)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    here = MagicMock()  # of threads, each would have the real devices
    here.return_value.__enter__.return_value.map = map
    monkeypatch.setattr(frozen, "ThreadPoolExecutor", here)
    copies = on_devices(backbone, "cuda")
    sizes = []
    for device, each in copies.items():
        seen = partial(lambda device, _module, given: sizes.append((device, len(given[0]))), device)
        each.register_forward_pre_hook(seen)
    found = backbone_features(copies, photographs)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert sorted(sizes, key=str) == [(torch.device("cuda", i), n) for i, n in enumerate([2, 2, 1])]
    assert list(on_devices(backbone, "cuda:1")) == [torch.device("cuda", 1)]

    extractor = load_extractor("efficientnet-lite0", None, "cuda")
    assert list(extractor.copies) == list(copies)
    np.testing.assert_allclose(extractor.features(photographs).pooled, expected, atol=1e-4)
    np.testing.assert_allclose(extractor.features(photographs[:2]).pooled, expected[:2], atol=1e-4)
