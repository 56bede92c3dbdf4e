"""What the benchmarks share: timing side by side, peaks of the machine, memory, the table."""

from __future__ import annotations

import multiprocessing
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import pandas as pd
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

_Result = TypeVar("_Result")


def show(title: str, rows: list[dict[str, Any]]) -> None:
    """Print rows as one aligned table."""
    print(f"\n{title}\n\n{pd.DataFrame(rows).to_string(index=False, na_rep='-')}\n", flush=True)


def interleaved(calls: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Return the seconds of each call, all taking turns: a noisy minute hits them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def speedup(before: list[float], after: list[float]) -> float:
    """Return how many times faster `after` is: the median over the turns."""
    return median(a / b for a, b in zip(before, after, strict=True))


def gflop(call: Callable[[], object]) -> float:
    """Return the GFLOP of a call: convolutions and matrix products, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 1e9


@torch.no_grad()
def machine_peaks() -> dict[str, float]:
    """Return GFLOP/s of a large matrix product and of 3x3 convolutions, channels first and last."""
    matrix = torch.randn(2048, 2048)
    conv = nn.Conv2d(256, 256, 3, padding=1)
    conv_last = nn.Conv2d(256, 256, 3, padding=1).to(memory_format=torch.channels_last)
    maps = torch.randn(16, 256, 32, 32)
    maps_last = maps.to(memory_format=torch.channels_last)
    calls: dict[str, Callable[[], object]] = {
        "matmul": lambda: matrix @ matrix,
        "conv, channels first": lambda: conv(maps),
        "conv, channels last": lambda: conv_last(maps_last),
    }
    work = {name: gflop(call) for name, call in calls.items()}
    return {name: work[name] / median(each) for name, each in interleaved(calls, 9).items()}


def describe(peaks: Mapping[str, float]) -> str:
    """Return the CPU, its measured peaks and the threads they were measured with, in one line."""
    measured = ", ".join(f"{name} {peak:.0f}" for name, peak in peaks.items())
    return f"{cpu()}, {torch.get_num_threads()} threads; peak GFLOP/s: {measured}"


def cpu() -> str:
    """Return the name of the CPU, with the numbers of its kind, which hosts hide from the name."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    found = {name.strip(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    name, family, model = (found.get(key, "?") for key in ("model name", "cpu family", "model"))
    return f"{name} (family {family}, model {model})"


def cpu_name() -> str:
    """Return what the processor calls itself."""
    info = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    name = re.search(r"^model name\s*: (.*)", info, re.MULTILINE)
    family = re.search(r"^cpu family\s*: (.*)", info, re.MULTILINE)
    return f"{name[1] if name else 'CPU'}{f' (family {family[1]})' if family else ''}"


def process() -> ProcessPoolExecutor:
    """Return a pool of one fresh process."""
    return ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn"))


def in_process(function: Callable[..., _Result], *args: object) -> _Result:
    """Return what a function returns in a fresh process, whose memory is its own."""
    with process() as pool:
        return pool.submit(function, *args).result()


def peak_rss_mib() -> float:
    """Return the most memory this process ever had resident, in MiB."""
    return memory_mib("VmHWM")


def memory_mib(field: str) -> float:
    """Return a field of this process's memory status, e.g. VmHWM or RssAnon, in MiB."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"field is {field!r}, expected those of /proc/self/status")


@torch.no_grad()
def awake(network: nn.Module) -> None:
    """Move all weights away from the zeros that last layers start as."""
    for weight in network.parameters():
        weight.add_(0.02 * torch.randn_like(weight))
