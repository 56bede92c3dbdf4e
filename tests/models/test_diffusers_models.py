"""The networks are diffusers models: what diffusers tests of every model of its own."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from diffusers import ModelMixin
from diffusers.training_utils import EMAModel
from torch import Tensor
from torch.testing import assert_close

from patchdm.models import CodeTable, LatentMLP, PatchUNet, SemanticEncoder

HALF = [torch.float16, torch.bfloat16]


def gaussian(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@dataclass(frozen=True)
class Case:
    """A small model, what it takes and the shape of what it gives."""

    kind: type[ModelMixin]
    sizes: dict[str, Any]
    inputs: Callable[[], tuple[Tensor, ...]]
    shape: tuple[int, ...]

    def model(self) -> Any:
        """Return a model whose every weight is at work, training as new models do."""
        torch.manual_seed(0)
        model = self.kind(**self.sizes)
        with torch.no_grad():
            for weight in model.parameters():  # away from the zeros that branches start as
                weight.add_(0.1 * torch.randn_like(weight))
        return model

    def output(self, model: Any) -> Tensor:
        result = model(*self.inputs())
        return result.sample if self.kind is PatchUNet else result


UNET = Case(
    PatchUNet,
    {
        "patch_size": 8,
        "channels": (8, 16),
        "res_blocks": 1,
        "attention_levels": (1,),
        "norm_groups": 4,
        "embed_dim": 16,
        "time_channels": 8,
        "position_channels": 8,
        "cond_dim": 12,
    },
    lambda: (gaussian(2, 3, 16, 24), torch.tensor([3, 800]), gaussian(2, 12)),
    (2, 3, 16, 24),
)
CASES = {
    "unet": UNET,
    "latent": Case(
        LatentMLP,
        {"code_dim": 8, "layers": 3, "hidden": 12, "time_channels": 4},
        lambda: (gaussian(2, 8), torch.tensor([3, 800])),
        (2, 8),
    ),
    "encoder": Case(
        SemanticEncoder,
        {"channels": (4, 8), "res_blocks": 1, "attention_levels": (1,), "norm_groups": 2}
        | {"code_dim": 6},
        lambda: (gaussian(2, 3, 16, 24),),
        (2, 6),
    ),
    "code_table": Case(
        CodeTable, {"num_images": 3, "code_dim": 6}, lambda: (torch.tensor([2, 0, 1]),), (3, 6)
    ),
}
every_model = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@every_model
@torch.no_grad()
def test_output(case: Case):
    model = case.model().eval()
    output = case.output(model)
    assert output.shape == case.shape
    assert output.isfinite().all()
    assert torch.equal(output, case.output(model)), "evaluation is not deterministic"


@every_model
@pytest.mark.parametrize("options", [{}, {"variant": "ema"}, {"max_shard_size": "1KB"}], ids=str)
@torch.no_grad()
def test_saving_and_loading(case: Case, options: dict[str, str], tmp_path: Path):
    model = case.model().eval()
    model.save_pretrained(tmp_path, **options)
    again = case.kind.from_pretrained(tmp_path, variant=options.get("variant"))
    assert not again.training
    assert torch.equal(case.output(again), case.output(model))
    files = [path.suffix for path in tmp_path.iterdir()]
    assert set(files) == {".json", ".safetensors"}
    shards = files.count(".safetensors")
    assert shards > 1 if "max_shard_size" in options and case.kind is not CodeTable else shards == 1


@every_model
def test_config(case: Case, tmp_path: Path):
    """A model is rebuilt from what its folder says of it."""
    case.model().save_config(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["_class_name"] == case.kind.__name__
    again = case.kind.from_config(case.kind.load_config(tmp_path))
    shapes = {name: weight.shape for name, weight in case.model().state_dict().items()}
    assert {name: weight.shape for name, weight in again.state_dict().items()} == shapes


@every_model
@pytest.mark.parametrize("dtype", HALF, ids=str)
@torch.no_grad()
def test_half_precision(case: Case, dtype: torch.dtype, tmp_path: Path):
    """Cast or loaded so, it computes so, from float32 inputs, close to the float32 result."""
    model = case.model().eval()
    expected = case.output(model)
    model.save_pretrained(tmp_path)
    loaded = case.kind.from_pretrained(tmp_path, torch_dtype=dtype)
    assert {weight.dtype for weight in loaded.state_dict().values()} == {dtype}
    output = case.output(loaded)
    assert output.dtype == dtype
    assert torch.equal(output, case.output(model.to(dtype)))
    assert_close(output.float(), expected, atol=0.1 * expected.abs().max().item(), rtol=0.0)


@every_model
@torch.no_grad()
def test_layerwise_casting(case: Case):
    """Weights kept in eight bits; the network computes in what it was."""
    model = case.model().eval()
    expected = case.output(model)
    model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    assert model.dtype == torch.float32
    output = case.output(model)
    assert output.dtype == torch.float32
    assert (output - expected).abs().mean() < 0.2 * expected.abs().mean()


@every_model
def test_gradients_reach_every_parameter(case: Case):
    model = case.model()
    assert model.training
    (case.output(model) - gaussian(*case.shape)).square().mean().backward()
    idle = [
        name
        for name, weight in model.named_parameters()
        if weight.grad is None or not weight.grad.any()
    ]
    assert idle == []


@every_model
def test_ema(case: Case, tmp_path: Path):
    model = case.model()
    start = [weight.detach().clone() for weight in model.parameters()]
    average = EMAModel(
        model.parameters(), decay=0.75, model_cls=case.kind, model_config=model.config
    )
    average.step(model.parameters())  # its first step copies
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(1.0)
    for _ in range(20):  # past its warm-up
        average.step(model.parameters())
    average.save_pretrained(tmp_path)
    average.copy_to(model.parameters())
    loaded = EMAModel.from_pretrained(tmp_path, case.kind)
    for weight, begin, saved in zip(model.parameters(), start, loaded.shadow_params, strict=True):
        assert (weight > begin + 0.5).all()
        assert (weight < begin + 1.0).all()
        assert torch.equal(weight, saved)


def test_forward_is_that_of_diffusers_unets():
    assert list(inspect.signature(PatchUNet.forward).parameters)[:3] == [
        "self",
        "sample",
        "timestep",
    ]
    model = UNET.model().eval()
    (plain,) = model(*UNET.inputs(), return_dict=False)
    assert torch.equal(plain, model(*UNET.inputs()).sample)
    sample, _, cond = UNET.inputs()
    for t in (7, torch.tensor(7), torch.tensor([7])):
        assert torch.equal(
            model(sample, t, cond).sample, model(sample, torch.tensor([7, 7]), cond)[0]
        )


def test_gradient_checkpointing_changes_nothing():
    """Dropout included: the random state is kept for the second pass."""

    def gradients(model: PatchUNet) -> dict[str, Tensor]:
        torch.manual_seed(2)
        UNET.output(model).square().mean().backward()
        return {name: weight.grad for name, weight in model.named_parameters()}

    runs: list[str] = []
    model = UNET.model()
    model.encoder.blocks[0].register_forward_pre_hook(lambda *_: runs.append("forward"))
    assert not model.is_gradient_checkpointing
    expected = gradients(model)
    assert len(runs) == 1
    model.zero_grad()
    model.enable_gradient_checkpointing()
    assert model.is_gradient_checkpointing
    assert_close(gradients(model), expected, atol=1e-6, rtol=1e-5)
    assert len(runs) == 3, "blocks are run again in the backward pass"
    model.disable_gradient_checkpointing()
    assert not model.is_gradient_checkpointing


def test_encode_and_decode_wake_an_offloaded_model():
    """Samplers call them, not `forward`, which alone CPU offload hooks."""
    woken: list[str] = []

    class Recorder(ModelHook):
        def pre_forward(self, module, *args, **kwargs):
            woken.append(type(module).__name__)
            return args, kwargs

    model = UNET.model().eval()
    add_hook_to_module(model, Recorder())
    features = model.encode(gaussian(4, 3, 8, 8), torch.tensor([5]), None, None)
    assert woken == ["PatchUNet"]
    model.decode(features, torch.tensor([5]), None, None)
    assert woken == ["PatchUNet"] * 2
