"""Memory and time of a denoising step against resolution, for the table of stage tables.

The paper's network (p = 64, random weights) predicts one canvas of each size, whole and streamed by
rows, in a process of its own. Memory is the highest resident memory above that before the step.
Writes benchmarks/results/resolution.csv; a step that needs more than the limit has empty cells.

    taskset -c 0,1 python -m benchmarks.resolution --threads 2
"""

from __future__ import annotations

import argparse
import math
import resource
import time
from pathlib import Path

import pandas as pd
import torch

from benchmarks._common import awake, in_process, memory_mib, peak_rss_mib, show
from patchdm.config import load_params
from patchdm.files import replacing
from patchdm.models.build import build_unet
from patchdm.report.tables.results import RESOLUTION_COLUMNS
from patchdm.sampling import predict_eps

PRESET = Path(__file__).parents[1] / "presets/nature1024.yaml"
RESULTS = Path(__file__).parent / "results/resolution.csv"
SIZES = [(256, 256), (384, 384), (1024, 512), (1024, 1024), (2048, 1024)]
"""Width and height: the paper's, and those that it makes beyond the training size."""
MODES = {"whole": None, "rows_per_chunk = 1": 1}


def main() -> None:
    """Measure all sizes and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=float, default=8.0, help="GiB of a process")
    args = parser.parse_args()
    rows = [
        (f"{width}x{height}", "p = 64", mode, *found, f"{args.threads} CPU threads")
        for width, height in SIZES
        for mode, chunk in MODES.items()
        for found in [in_process(measure, height, width, chunk, args.threads, args.limit)]
    ]
    table = pd.DataFrame(rows, columns=list(RESOLUTION_COLUMNS))
    with replacing(RESULTS) as fresh:
        table.to_csv(fresh, index=False)
    show("Memory and time against resolution", table.to_dict("records"))


@torch.no_grad()
def measure(
    height: int, width: int, rows_per_chunk: int | None, threads: int, limit: float
) -> tuple[float, float]:
    """Return MiB and seconds of one prediction; NaN: it needs more memory than the limit."""
    torch.set_num_threads(threads)
    resource.setrlimit(resource.RLIMIT_DATA, (int(limit * 2**30),) * 2)
    torch.manual_seed(0)
    unet = build_unet(load_params(PRESET).model).eval().to(memory_format=torch.channels_last)
    awake(unet)
    t, cond = torch.tensor([500]), torch.randn(1, unet.config.cond_dim)
    predict_eps(unet, torch.randn(1, 3, 64, 64), t, cond)  # libraries load on first use
    x_t = torch.randn(1, 3, height, width)
    before, start = memory_mib("VmRSS"), time.perf_counter()
    try:
        predict_eps(unet, x_t, t, cond, rows_per_chunk=rows_per_chunk)
    except (RuntimeError, MemoryError) as error:
        if "memory" not in str(error).lower():
            raise
        return math.nan, math.nan
    seconds = time.perf_counter() - start
    return round(peak_rss_mib() - before), round(seconds, 2)


if __name__ == "__main__":
    main()
