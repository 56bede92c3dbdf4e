"""The default device, its precision, and torch's threads on a CPU that other programs use too."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn


def default_device() -> str:
    """Return the name of the default device: "cuda", or else a Mac's "mps", or else "cpu"."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def device_memory(given: float | None) -> float | None:
    """Return the GB (10^9 bytes) of a device: those given, or else the GPU's; None: a CPU's."""
    if given is None and torch.cuda.is_available():
        return float(torch.cuda.get_device_properties(0).total_memory / 1e9)
    return given


def device_for(*, deterministic: bool, training: bool = False) -> str:
    """Return the name of the default device, and say which kernels GPUs may use from now on.

    Args:
        deterministic: those alone that give the same bytes every time; RuntimeError where there is
            none, as in cuBLAS if CUBLAS_WORKSPACE_CONFIG is not ":4096:8" when CUDA starts.
        training: else also products in TF32, and the convolutions that are found to be fastest.
    """
    if torch.cuda.is_available():
        free = training and not deterministic
        torch.use_deterministic_algorithms(deterministic)
        torch.backends.cudnn.deterministic = deterministic
        torch.backends.cudnn.benchmark = free
        torch.backends.cuda.matmul.allow_tf32 = free
    return default_device()


def precision(name: str) -> str:
    """Resolve "auto" of params.yaml: "bf16" if the device computes in it natively, else "no"."""
    if name != "auto":
        return name
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    if torch.backends.mps.is_available():
        return "no"
    able = torch.cpu.get_capabilities()
    native = able.get("amx_bf16") or able.get("avx512_bf16")
    # oneDNN may be told to use less of the CPU (ONEDNN_MAX_CPU_ISA), then bf16 is very slow.
    return "bf16" if native and torch.ops.mkldnn._is_mkldnn_bf16_supported() else "no"  # noqa: SLF001


def cast(network: nn.Module, name: str) -> None:
    """Let a network compute in a `mixed_precision` of params.yaml, its weights included."""
    types = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    # That of diffusers' models warns of parts to keep in float32, and there are none.
    nn.Module.to(network, types[precision(name)])


def arriving(values: Tensor) -> Callable[[], list[Any]]:
    """Begin to copy values from their device; return what waits for them, and for no later work."""
    if not values.is_cuda:
        return values.tolist
    copy = values.to("cpu", non_blocking=True)
    copied = torch.cuda.current_stream(values.device).record_event()

    def wait() -> list[Any]:
        copied.synchronize()
        return copy.tolist()

    return wait


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute on so many threads within."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def one_thread(*, small: bool = True) -> contextlib.AbstractContextManager[None]:
    """Compute on one thread within, if the operations are small.

    Several threads wait for each other at every operation. With short operations they gain little,
    and all wait for a thread that another program keeps off its core: next to two busy processes
    the demo's latent training ran at a hundredth of its speed.
    """
    return threads(1 if small else torch.get_num_threads())
