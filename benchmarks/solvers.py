"""Quality and time of samples by solver and number of steps, on a trained model.

The same seeds are sampled with each setting, batch by batch in turn, in the tiling of the run;
first by the straightforward implementation on shifted patches, against whose time `speed` is
measured. FID and KID compare with the training images. The mark stands at the fastest setting
whose FID is at most 2 % above that of DDIM with 50 steps.

    taskset -c 0,1 python -m benchmarks.solvers --images 224 --runs .
"""

from __future__ import annotations

import torch

from benchmarks._common import show
from benchmarks._trained import Setting, Trained, arguments
from patchdm.sampling.solvers import SOLVERS

STEPS = (50, 25, 20, 15, 10, 8, 6)
REFERENCE = ("ddim", 50)
TOLERANCE = 1.02


def main() -> None:
    """Print one table a run."""
    parser = arguments(__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for run in args.runs:
        trained = Trained(run)
        tiling = trained.params.sample.tiling
        wanted = [(name, steps) for steps in args.steps for name in SOLVERS]
        settings = [Setting(*key, tiling) for key in dict.fromkeys([REFERENCE, *wanted])]
        baseline = Setting(*REFERENCE, "shifted", straightforward=True)
        rows = trained.compare([baseline, *settings], args.images)
        for row in rows:
            row["speed"] = f"{rows[0]['s/image'] / row['s/image']:.1f}x"
            row["mark"] = ""
        measure = f"FID-{trained.extractor.label}"
        good = [row for row in rows[1:] if row[measure] <= TOLERANCE * rows[1][measure]]
        min(good, key=lambda row: row["s/image"])["mark"] = "<- fastest at the FID of ddim-50"
        rows[0]["mark"] = "straightforward"
        show(f"Solvers, {args.images} samples of {run.absolute()}, {args.threads} threads", rows)


if __name__ == "__main__":
    main()
