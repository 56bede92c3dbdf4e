"""Large canvases from coarse to fine, compared with one pass: what is where, and detail.

Canvases of a trained model, several times as wide and as high as its training images, half of the
steps and less or more of them made of an image of the training size, sampled from the same seed
with the same code, enlarged. Layout: KID of the canvases, shrunk to the training size, to the
training images. Detail: KID of crops of the training size to such crops of the held-out
photographs at the canvas' size.

    taskset -c 0,1 python -m benchmarks.coarse --images 48 --runs .
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks._common import show
from benchmarks._trained import Trained, arguments
from patchdm.formats.images import Pixels, read_views
from patchdm.formats.tensors import to_uint8
from patchdm.metrics.fidelity import kid
from patchdm.sampling.coarse import enlarged
from patchdm.sampling.solve import generators
from patchdm.sampling.solvers import solver
from stages._common import RAW

TIMES = 4
STRENGTHS = 0.25, 0.375, 0.5, 0.75
FIELD = 2
"""Codes of a field along both axes."""


def main() -> None:
    """Print one table of all runs."""
    parser = arguments(__doc__)
    parser.set_defaults(images=48)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = [row for run in args.runs for row in measured(run, args.images)]
    show(f"{TIMES}x the training size, {args.images} canvases, {args.threads} threads", rows)


def measured(run: Path, count: int) -> list[dict[str, object]]:
    """Return a row for each way to make canvases of a run's model."""
    trained = Trained(run)
    photographs = trained.features(crops(trained, held_out(trained, run / RAW)))
    distance = partial(kid, subset_size=trained.params.evaluate.kid_subset_size, seed=0)
    rows = []
    for way, canvases in ways(trained, count).items():
        pixels = to_uint8(canvases)
        height, width = trained.params.data.height, trained.params.data.width
        small = to_uint8(F.interpolate(canvases, (height, width), mode="area"))
        detail = distance(trained.features(crops(trained, pixels)), photographs)
        layout = distance(trained.features(small), trained.real)
        row = {"run": run.absolute().name, "way": way, "n": len(pixels)}
        rows.append(
            row | {"layout KID": round(layout.mean, 4), "detail KID": round(detail.mean, 4)}
        )
        print(rows[-1], flush=True)
    return rows


def ways(trained: Trained, count: int) -> dict[str, Tensor]:
    """Return canvases (count, 3, H, W) of each way, of the same seeds."""
    pipe, data, sample = trained.pipe, trained.params.data, trained.params.sample
    pipe.scheduler = solver(trained.scheduler, sample.solver)
    small, large = (data.height, data.width), (TIMES * data.height, TIMES * data.width)

    def made(
        size: tuple[int, int], codes: Tensor, begun: Tensor | None = None, strength: float = 1.0
    ) -> Tensor:
        images = [
            pipe(
                1,
                *size,
                sample.num_steps,
                sample.guidance_scale,
                generator=generators([seed]),
                cond=codes[seed : seed + 1],
                output_type="latent",
                image=None if begun is None else begun[seed : seed + 1],
                strength=strength,
                tiling=sample.tiling,
                positions="reflect",
            )[0]
            for seed in range(count)
        ]
        return torch.cat(images)

    codes = pipe.sample_codes(
        count * FIELD**2, generators(range(count * FIELD**2)), trained.params.latent.num_steps
    )
    field, one = codes.view(count, FIELD, FIELD, -1), codes[:: FIELD**2]
    coarse = made(small, one).clamp(-1, 1)
    found = {
        "enlarged alone": torch.cat([enlarged(each[None], *large)(0, large[0]) for each in coarse]),
        "one pass, one code": made(large, one),
        f"one pass, {FIELD}x{FIELD} codes": made(large, field),
    }
    for strength in STRENGTHS:
        found[f"strength {strength}"] = made(large, one, coarse, strength)
    return found


def held_out(trained: Trained, folder: Path) -> Pixels:
    """Return the held-out photographs at the canvas' size, (n, H, W, 3)."""
    data, index = trained.params.data, trained.store.index
    names = index[(index["split"] == "test") & (index["view"] == 0)]["source"]
    size = TIMES * data.width, TIMES * data.height
    return np.concatenate([read_views(folder / name, *size)[0] for name in names])


def crops(trained: Trained, canvases: Pixels) -> Pixels:
    """Cut canvases (n, H, W, 3) into parts of the training size."""
    n, height, width, _ = canvases.shape
    h, w = trained.params.data.height, trained.params.data.width
    parts = canvases.reshape(n, height // h, h, width // w, w, 3)
    return parts.swapaxes(2, 3).reshape(-1, h, w, 3)


if __name__ == "__main__":
    main()
