"""A GPU that is not there: tensors that torch takes for CUDA's, whose values are on the CPU.

Every operation with such a tensor runs twice: on torch's fake tensors, which know the rules of
devices and refuse a tensor of the CPU, and on the CPU, for the values. All other operations run as
always, so that schedulers, files and random draws are real.

Without a GPU torch computes no gradients of its tensors (2.14: the engine asks the driver for its
devices): `backward` and `grad` give every parameter of the graph a small gradient instead.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

CUDA = torch.device("cuda:0")
_READ = torch.ops.aten._local_scalar_dense.default


class FakeCuda(TorchDispatchMode):
    """Within it, and within a `FakeTensorMode` around it, `cuda:0` and further GPUs are there.

    Without `values` the tensors of the GPU are shapes alone, as large as one likes.
    """

    def __init__(self, fake: FakeTensorMode, *, values: bool = True) -> None:
        super().__init__()
        self.values = values
        # Its weak references to tensors; those with any cannot be swapped for others.
        self.memo = fake.fake_tensor_converter.meta_converter.tensor_memo

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        on_gpu = any(map(_on_gpu, tree_leaves((args, kwargs)))) and func is not _READ
        real = None
        if self.values or not on_gpu:
            given, options = tree_map(_value, (args, kwargs))
            with unset_fake_temporarily():
                real = func(*given, **options)
        if not on_gpu:
            return real
        args, kwargs = tree_map(_fake, (args, kwargs))
        seen = func(*args, **kwargs)
        self.memo.clear()
        if not self.values:
            return seen
        for fake, value in zip(tree_leaves(seen), tree_leaves(real), strict=True):
            if isinstance(fake, FakeTensor):
                assert (fake.shape, fake.dtype) == (value.shape, value.dtype)
                fake.value = value if value.stride() == fake.stride() else _laid_out(value, fake)
        # What was copied to the CPU is real.
        return tree_map(lambda out: out if _on_gpu(out) else _value(out), seen)


def _on_gpu(leaf: Any) -> bool:
    device = leaf if isinstance(leaf, torch.device) else getattr(leaf, "device", None)
    return device is not None and device.type == "cuda"


def _laid_out(value: Tensor, fake: FakeTensor) -> Tensor:
    """Return a tensor with the strides of another: kernels of the CPU choose other ones."""
    with unset_fake_temporarily():
        out = torch.empty_strided(fake.shape, fake.stride(), dtype=fake.dtype)
        return out.copy_(value)


def _fake(leaf: Any) -> Any:
    """Return a tensor without values for one of the CPU."""
    if isinstance(leaf, FakeTensor) or not isinstance(leaf, Tensor):
        return leaf
    return torch.empty_strided(leaf.shape, leaf.stride(), dtype=leaf.dtype)


def _value(leaf: Any) -> Any:
    """Return the tensor or device of the CPU that stands behind one of the GPU."""
    if isinstance(leaf, torch.device):
        return torch.device("cpu")
    return leaf.value if isinstance(leaf, FakeTensor) else leaf


def _as_subclass(fake: FakeTensor, kind: type[Tensor]) -> Tensor:
    """Stand in for `Tensor.as_subclass`, which takes no fake tensor."""
    names = {"__torch_function__": kind.__torch_function__}
    alias = fake.detach()
    alias.__class__ = type(kind.__name__, (FakeTensor, kind), names)
    return alias


def _backward(loss: Tensor) -> None:
    """Stand in for `Tensor.backward`: add a gradient to every parameter that the loss has."""
    todo, done = [loss.grad_fn], set()
    while todo:
        if (node := todo.pop()) in done or node is None:
            continue
        done.add(node)
        todo += [before for before, _ in node.next_functions]
        if (leaf := getattr(node, "variable", None)) is not None:
            gradient = torch.full_like(leaf, 1e-3)
            leaf.grad = gradient if leaf.grad is None else leaf.grad + gradient


@contextlib.contextmanager
def fake_cuda(*, values: bool = True) -> Iterator[torch.device]:
    """Compute with a GPU that is not there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeTensor, "as_subclass", _as_subclass, raising=False)
        with FakeTensorMode() as fake, FakeCuda(fake, values=values):
            yield CUDA


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """Train and sample with a GPU that is not there; accelerate uses it."""
    monkeypatch.setattr(FakeTensor, "backward", _backward, raising=False)
    monkeypatch.setattr(torch.autograd, "grad", lambda _, leaf: (torch.full_like(leaf, 1e-3),))
    save = torch.save  # files hold values
    monkeypatch.setattr(torch, "save", lambda state, file: save(tree_map(_value, state), file))
    monkeypatch.setattr(torch, "load", unset_fake_temporarily()(torch.load))
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    monkeypatch.setattr(torch.cuda, "current_stream", MagicMock())  # nothing is ever late
    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState(cpu=True).device = CUDA
    # Parameters stay the same objects, which optimisers know them by.
    swap = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    with fake_cuda() as device:
        yield device
    torch.__future__.set_swap_module_params_on_conversion(swap)
    AcceleratorState._reset_state(reset_partial_state=True)
