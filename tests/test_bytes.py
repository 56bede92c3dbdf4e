"""On a CPU equal inputs give equal bytes, wherever in memory they lie and whoever computes."""

from __future__ import annotations

import copy
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from patchdm.models import LatentMLP, PatchUNet
from patchdm.models.blocks import Attention
from patchdm.parallel import in_order
from patchdm.sampling import predict_eps
from tests.networks import awake, small_unet

REPO = Path(__file__).parents[1]
LINE = 64
"""Bytes that the widest vector has: to a kernel, addresses differ by what they leave of it."""

OFFSETS = range(0, LINE, 4)
DTYPES = [torch.float32, torch.bfloat16, torch.float16]

OPERATIONS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear 8 to 8": (lambda: nn.Linear(8, 8), (8,)),
    "linear 16 to 64": (lambda: nn.Linear(16, 64), (16,)),
    "linear 130 to 70": (lambda: nn.Linear(130, 70), (130,)),
    "linear 512 to 512": (lambda: nn.Linear(512, 512), (512,)),
    "convolution 3 x 3": (lambda: nn.Conv2d(8, 16, 3, padding=1), (8, 8, 8)),
    "convolution 1 x 1": (lambda: nn.Conv2d(24, 16, 1), (24, 4, 4)),
    "attention over 2 x 2": (lambda: Attention(16, groups=4), (16, 2, 2)),
    "attention over 8 x 8": (lambda: Attention(16, groups=4), (16, 8, 8)),
}
"""What a network is made of, and the shape of what one takes."""


def operation(name: str) -> nn.Module:
    """Return one, with the same weights each time."""
    torch.manual_seed(0)
    return awake(OPERATIONS[name][0]())


def shifted(tensor: Tensor, offset: int) -> Tensor:
    """Return a copy that begins `offset` bytes behind a multiple of LINE."""
    size = tensor.numel() * tensor.itemsize
    memory = torch.empty(size + 2 * LINE, dtype=torch.uint8)
    start = offset - memory.data_ptr() % LINE + LINE
    copied = (
        memory[start : start + size].view(tensor.dtype).as_strided_(tensor.shape, tensor.stride())
    )
    assert copied.data_ptr() % LINE == offset
    return copied.copy_(tensor)


def moved(module: nn.Module, offset: int) -> nn.Module:
    """Return a copy whose every weight begins `offset` bytes behind a multiple of LINE."""
    module = copy.deepcopy(module)
    for weight in module.parameters():
        weight.data = shifted(weight.data, offset)
    return module


def gaussian(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_and_its_gradients(name: str, batch: int, dtype: torch.dtype):
    module = operation(name).to(dtype)
    x = gaussian(batch, *OPERATIONS[name][1]).to(dtype)

    def results(of_weights: int, of_x: int) -> list[Tensor]:
        one = moved(module, of_weights)
        y = one(shifted(x, of_x))
        y.float().square().mean().backward()
        return [y, *(weight.grad for weight in one.parameters())]

    expected = results(0, 0)
    for offset in OFFSETS:
        for places in ((offset, 0), (0, offset), (offset, offset)):
            for found, result in zip(results(*places), expected, strict=True):
                assert torch.equal(found, result), places


def attentive_unet() -> PatchUNet:
    return small_unet(attention_levels=(1,))


@torch.no_grad()
def prediction(unet: PatchUNet, batch: int, offset: int = 0) -> Tensor:
    """Return the guided prediction of canvases of 2 x 3 patches."""
    x_t, cond = (shifted(gaussian(batch, *shape), offset) for shape in ((3, 16, 24), (6,)))
    return predict_eps(unet, x_t, torch.full((batch,), 500), cond, guidance_scale=0.5)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("batch", [1, 7])
def test_the_whole_network(batch: int, layout: torch.memory_format):
    unet = attentive_unet().to(memory_format=layout)
    expected = prediction(unet, batch)
    for offset in OFFSETS:
        assert torch.equal(prediction(moved(unet, offset), batch, offset), expected), offset


@pytest.mark.parametrize("batch", [1, 7])
def test_the_latent_model(batch: int):
    model = awake(LatentMLP(code_dim=6, layers=2, hidden=8, time_channels=8))
    z, t = gaussian(batch, 6), torch.full((batch,), 500)
    expected = model(z, t)
    for offset in OFFSETS:
        assert torch.equal(moved(model, offset)(shifted(z, offset), t), expected), offset


@pytest.mark.parametrize("batch", [1, 7])
def test_a_model_just_loaded(batch: int, tmp_path: Path):
    unet = attentive_unet()
    unet.save_pretrained(tmp_path)
    for _ in range(3):  # each lies elsewhere
        assert torch.equal(
            prediction(PatchUNet.from_pretrained(tmp_path), batch), prediction(unet, batch)
        )


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@torch.no_grad()
def test_weights_that_are_frozen(dtype: torch.dtype, layout: torch.memory_format):
    module = awake(Attention(16, groups=4)).to(dtype)
    x = gaussian(3, 16, 8, 8).to(dtype, memory_format=layout)
    trainable, frozen = (module.requires_grad_(requires)(x) for requires in (True, False))
    assert torch.equal(trainable, frozen)


# Every process of ours


@torch.no_grad()
def digest(offset: int) -> str:
    """Return a hash of what all operations make of memory at an offset."""
    torch.set_num_threads(1)
    found = hashlib.sha256()
    for name, (_, shape) in OPERATIONS.items():
        y = moved(operation(name), offset)(shifted(gaussian(1, *shape), offset))
        found.update(y.contiguous().numpy())
    return found.hexdigest()


def test_workers_compute_what_their_parent_does():
    expected = {digest(0)}
    assert set(in_order(digest, OFFSETS, 2)) == expected
    offsets = list(map(torch.tensor, OFFSETS))
    assert set(DataLoader(offsets, batch_size=None, num_workers=2, collate_fn=digest)) == expected


def python(code: str, **changes: str | None) -> str:
    """Return what a fresh Python prints, with changes of the environment; None: not set."""
    env = os.environ | {"PYTHONPATH": str(REPO)} | changes
    env = {name: value for name, value in env.items() if value is not None}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("package", ["patchdm", "stages", "pipelines", "benchmarks", "tests"])
@pytest.mark.parametrize(("users", "expected"), [(None, "AUTO"), ("AVX2", "AVX2")])
def test_every_entry_tells_mkl_before_it_can_start(package: str, users: str | None, expected: str):
    """A command, a stage and a flow are modules of a package, which Python imports first."""
    code = f"import sys, os, {package}; print(os.environ['MKL_CBWR'], 'torch' in sys.modules)"
    assert python(code, MKL_CBWR=users) == f"{expected} False\n"


def test_torch_may_be_imported_first():
    code = "import torch; from tests.test_bytes import *; print(len({*map(digest, OFFSETS)}))"
    assert python(code, MKL_CBWR=None) == "1\n"
