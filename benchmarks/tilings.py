"""Seams, quality and time of samples by tiling, on one or more trained models.

The same seeds are sampled with each tiling, batch by batch in turn, by DDIM with 50 steps. Seams
are looked for at the borders of the shifted patches and of the padded ones; in photographs their
score is 1.0, as is that of the worst border, relative to the training images. FID and KID compare
with those.

    taskset -c 0,1 python -m benchmarks.tilings --images 224 --runs . ../study
"""

from __future__ import annotations

import torch

from benchmarks._common import show
from benchmarks._trained import Setting, Trained, arguments

TILINGS = ("shifted", "blend")


def main() -> None:
    """Print one table of all runs."""
    args = arguments(__doc__).parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for run in args.runs:
        settings = [Setting("ddim", 50, tiling) for tiling in TILINGS]
        name = run.absolute().name
        rows += [{"run": name, **row} for row in Trained(run).compare(settings, args.images)]
    show(f"Tilings, {args.images} samples, {args.threads} threads", rows)


if __name__ == "__main__":
    main()
