"""Photographs that go on far beyond their border: one code, a field of them, or sampled codes.

Held-out photographs of a trained model get four times their width. What was made is cut into
windows of the training size, half a window apart, which are compared with the training images as
in `benchmarks.panoramas`. Repetition: how much nearer the thirds of what was made are to each
other than to those of other images.

    taskset -c 0,1 python -m benchmarks.outward --images 39 --runs .
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import torch

from benchmarks._common import show
from benchmarks._trained import Trained, arguments
from patchdm.backbones.load import load_backbone
from patchdm.choices import Code
from patchdm.formats.images import Pixels
from patchdm.formats.tensors import to_tensor, to_uint8
from patchdm.metrics.repetition import parts_of, repetition
from patchdm.sampling.encode import CodeFit
from patchdm.sampling.solve import generators

WIDTHS = 3
"""Made of each photograph, in widths of a training image."""


def main() -> None:
    """Print one table of all runs."""
    parser = arguments(__doc__)
    parser.set_defaults(images=39)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = [row for run in args.runs for row in measured(run, args.images)]
    show(f"{WIDTHS} widths beyond {args.images} photographs, {args.threads} threads", rows)


def measured(run: Path, count: int) -> list[dict[str, object]]:
    """Return a row for each kind of code."""
    trained = Trained(run)
    photographs = trained.store.images(trained.store.photographs("test")[:count])
    width = photographs.shape[2]
    rows = []
    for code in get_args(Code):
        made = grown(trained, photographs, code)[:, :, width:]
        starts = range(0, WIDTHS * width - width + 1, width // 2)
        windows = np.concatenate([made[:, :, at : at + width] for at in starts])
        thirds = parts_of(made, 1, WIDTHS)
        features = trained.features(thirds).reshape(len(made), WIDTHS, -1)
        scores = {**trained.quality(windows), "nearer": round(trained.nearer(windows), 2)}
        row = {"run": run.absolute().name, "code": code, "n": len(windows)}
        rows.append(row | scores | {"repetition": round(repetition(features), 3)})
        print(rows[-1], flush=True)
    return rows


def grown(trained: Trained, photographs: Pixels, code: str) -> Pixels:
    """Return photographs of `WIDTHS` more widths, (n, H, (1 + WIDTHS) W, 3)."""
    params = trained.params
    config, features = params.applications, params.features
    weights = Path(features.weights) if features.weights else None
    fit = CodeFit.of(load_backbone(features.backbone, weights, "cpu").features, config)
    made = [
        trained.pipe.outpaint(
            to_tensor(photograph[None]),
            right=WIDTHS * photograph.shape[1],
            output_type="latent",
            num_inference_steps=config.num_steps,
            guidance_scale=params.sample.guidance_scale,
            resamplings=config.resamplings,
            blend_width=config.blend_width,
            tiling=config.tiling,
            positions="extrapolate,reflect",
            code=code,
            fit=fit,
            generator=generators([number]),
        )[0]
        for number, photograph in enumerate(photographs)
    ]
    return to_uint8(torch.cat(made))


if __name__ == "__main__":
    main()
