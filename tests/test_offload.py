"""diffusers' three kinds of offload: the same images, by weights that are elsewhere until used.

On the CPU, offloaded weights are on device meta (sequential) or in files, what is left of them in
memory being NaN (groups): a weight that is used without being woken fails or spoils the images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import cpu_offload
from torch import Tensor, nn

from patchdm.devices import cast
from patchdm.models import CodeTable
from patchdm.pipeline import PatchDMPipeline
from patchdm.sampling.encode import CodeFit
from tests.small_pipeline import CODE, P, images, pipeline

CPU = torch.device("cpu")
Offload = Callable[[PatchDMPipeline, Path], object]


@pytest.fixture(autouse=True)
def nan_in_new_memory() -> Iterator[None]:
    torch.use_deterministic_algorithms(mode=True)  # fills what torch.empty gives
    yield
    torch.use_deterministic_algorithms(mode=False)


def by_models(pipe: PatchDMPipeline, _: Path) -> None:
    pipe.enable_model_cpu_offload(device="cpu")


def one_after_another(pipe: PatchDMPipeline, _: Path) -> None:
    """As `enable_sequential_cpu_offload`, which cannot compute on the CPU itself."""
    for part in pipe.components.values():
        if isinstance(part, nn.Module):
            cpu_offload(part, CPU, offload_buffers=len(part._parameters) > 0)
    assert {weight.device.type for weight in pipe.unet.parameters()} == {"meta"}


def by_blocks(pipe: PatchDMPipeline, folder: Path) -> None:
    in_groups(pipe, folder, "block_level")


def by_leaves(pipe: PatchDMPipeline, folder: Path) -> None:
    in_groups(pipe, folder, "leaf_level")


def in_groups(pipe: PatchDMPipeline, folder: Path, kind: str) -> None:
    """As the pipeline's `enable_group_offload`, which lets models share files."""
    for name, part in pipe.components.items():
        if isinstance(part, nn.Module):
            options = {"offload_type": kind, "num_blocks_per_group": 1}
            part.enable_group_offload(CPU, **options, offload_to_disk_path=str(folder / name))
    assert all(weight.isnan().all() for weight in pipe.unet.parameters())


def features(photographs: np.ndarray) -> np.ndarray:
    return photographs.reshape(len(photographs), -1)[:, :9].astype(np.float32) / 255


def by_table() -> PatchDMPipeline:
    start = np.random.default_rng(0).random((20, 9), np.float32)
    return pipeline(encoder=None, code_table=CodeTable.from_features(start, CODE, "pixels").eval())


def by_table_in_half() -> PatchDMPipeline:
    pipe = by_table()
    cast(pipe.unet, "bf16")
    return pipe


def sampled(pipe: PatchDMPipeline) -> Tensor:
    return images(pipe, guidance_scale=0.5, tiling="blend", cols_per_chunk=1)


def called(pipe: PatchDMPipeline) -> Tensor:
    x_t, cond = torch.full((1, 3, P, 2 * P), 0.3), torch.full((1, CODE), 0.2)
    with torch.no_grad():
        return pipe.unet(x_t, 500, cond).sample


def inpainted(pipe: PatchDMPipeline) -> Tensor:
    mask = torch.zeros(P, 2 * P, dtype=torch.bool)
    mask[2:9, 3:12] = True
    return pipe.inpaint(
        torch.linspace(-1, 1, 6 * P * P).view(1, 3, P, 2 * P),
        mask,
        num_inference_steps=2,
        resamplings=2,
        generator=torch.Generator().manual_seed(3),
        output_type="pt",
        fit=CodeFit(features, num_steps=2, windows=2, learning_rate=0.1),
    ).images


@pytest.mark.parametrize("offload", [by_models, one_after_another, by_blocks, by_leaves])
@pytest.mark.parametrize("work", [sampled, called, inpainted])
@pytest.mark.parametrize(
    "make", [pipeline, by_table, by_table_in_half], ids=["encoder", "table", "half"]
)
def test_images_are_equal(make, work, offload: Offload, tmp_path: Path):
    expected = work(make())
    assert expected.isfinite().all()
    pipe = make()
    offload(pipe, tmp_path)
    assert torch.equal(work(pipe), expected)
    assert torch.equal(work(pipe), expected), "the second time"
