"""Memory of predicting a canvas, by its height and width: whole, streamed by rows, or tiled.

Each canvas is predicted once in a process of its own. x_t and the library's prediction lie in
memory-mapped files. What counts is private memory (RssAnon, so no file pages): its highest value
during the call over that just before, with an allocator told to hand back what is freed, lest
the gaps in its heap be counted. A process may hold so much data and no more; a canvas that needs
more has no peak.

    taskset -c 0,1 python -m benchmarks.memory --threads 2
"""

from __future__ import annotations

import argparse
import ctypes
import resource
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from benchmarks import straightforward
from benchmarks._common import awake, in_process, memory_mib, show
from benchmarks._weights import straightforward_like
from patchdm.config import load_params
from patchdm.models import PatchUNet
from patchdm.models.build import build_unet
from patchdm.sampling import predict_eps

PRESETS = Path(__file__).parents[1] / "presets"
STRAIGHTFORWARD = "straightforward"
CHUNKS = {
    "rows_per_chunk=1": {"rows_per_chunk": 1},
    "rows_per_chunk=1, cols_per_chunk=4": {"rows_per_chunk": 1, "cols_per_chunk": 4},
}
GROWTH = (1, 4, 16, 64)
M_MMAP_THRESHOLD = -3
"""Option of mallopt(3): blocks of this size and more are mapped, and unmapped when freed."""


class Sweep(NamedTuple):
    """A side that grows from `short` patches on, next to one of `long` patches."""

    preset: str
    side: str
    short: int
    long: int


SWEEPS = [
    Sweep("demo", "height", 4, 32),
    Sweep("demo", "width", 4, 32),
    Sweep("nature1024", "height", 1, 4),
]


class PeakMemory:
    """Watches this process's private memory while a block runs."""

    def __enter__(self) -> Self:
        """Start to watch."""
        self._done = threading.Event()
        self._before = self._peak = memory_mib("RssAnon")
        self._watch = threading.Thread(target=self._look)
        self._watch.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop watching."""
        self._done.set()
        self._watch.join()

    def _look(self) -> None:
        while not self._done.wait(0.0005):
            self._peak = max(self._peak, memory_mib("RssAnon"))

    @property
    def mib(self) -> float:
        """The highest value above that at the start."""
        return self._peak - self._before


def main() -> None:
    """Measure all sweeps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=float, default=4.0, help="GiB of a process")
    parser.add_argument("--presets", nargs="*", default=["demo", "nature1024"])
    args = parser.parse_args()
    for sweep in SWEEPS:
        if sweep.preset not in args.presets:
            continue
        rows: list[dict[str, Any]] = []
        for mode in (STRAIGHTFORWARD, *CHUNKS):
            first = None
            for factor in GROWTH:
                sides = sweep.short * factor, sweep.long
                grid = sides if sweep.side == "height" else sides[::-1]
                row = in_process(measure, sweep.preset, grid, mode, args.threads, args.limit)
                first = first or row["peak MiB"]
                rows.append({**row, "growth": round(row["peak MiB"] / first, 2)})
        show(
            f"Peak memory by {sweep.side}, {sweep.preset} network, {args.threads} threads, "
            f"at most {args.limit:g} GiB",
            rows,
        )


def measure(
    preset: str, grid: tuple[int, int], mode: str, threads: int, limit: float
) -> dict[str, Any]:
    """Predict one canvas of rows x cols patches; a peak of nan: too large."""
    torch.set_num_threads(threads)
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_THRESHOLD, 2**16)
    resource.setrlimit(resource.RLIMIT_DATA, (int(limit * 2**30),) * 2)
    torch.manual_seed(0)
    unet = build_unet(load_params(PRESETS / f"{preset}.yaml").model).eval()
    awake(unet)
    baseline = straightforward_like(unet)
    unet.to(memory_format=torch.channels_last)
    height, width = (side * unet.config.patch_size for side in grid)
    peak = float("nan")
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        x_t, out = (mapped(Path(folder) / name, height, width) for name in ("x_t", "out"))
        x_t.normal_()
        t, cond = torch.tensor([500]), torch.randn(1, unet.config.cond_dim)
        libc.malloc_trim(0)
        try:
            with PeakMemory() as memory:
                predict(unet, baseline, mode, x_t, t, cond, out)
            peak = memory.mib
        except (RuntimeError, MemoryError) as error:
            if "memory" not in str(error):
                raise
    return {
        "mode": mode,
        "canvas": f"{height}x{width}",
        "canvas MiB": round(x_t.nbytes / 2**20, 1),
        "peak MiB": round(peak, 1),
    }


def predict(
    unet: PatchUNet,
    baseline: straightforward.UNet,
    mode: str,
    x_t: Tensor,
    t: Tensor,
    cond: Tensor,
    out: Tensor,
) -> None:
    """Predict a canvas as the mode says."""
    if mode == STRAIGHTFORWARD:
        straightforward.predict_eps(baseline, x_t, t, cond)
    else:
        predict_eps(unet, x_t, t, cond, out=out, **CHUNKS[mode])


def mapped(file: Path, height: int, width: int) -> Tensor:
    """Return a canvas (1, 3, height, width) that lies in a new file."""
    return torch.from_file(str(file), shared=True, size=3 * height * width).view(
        1, 3, height, width
    )


if __name__ == "__main__":
    main()
