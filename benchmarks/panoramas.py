"""Canvases wider than the training images: positions, one code or a field of them, how codes blend.

Panoramas of a trained model, several times as wide as its training images, cut into windows of
their size, half a window apart. Windows are compared with all training images (FID, KID) and with
the held-out ones (nearest: the share that is nearer to the training images than those are). A field
has a code for every width of a training image. Interpolation: of codes, `linear`; along the arc,
`spherical`; of the noise that the latent model makes them of, `noise`.

    taskset -c 0,1 python -m benchmarks.panoramas --images 256 --runs .
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from benchmarks._common import show
from benchmarks._trained import Trained, arguments
from patchdm.choices import Positions
from patchdm.formats.tensors import to_uint8
from patchdm.sampling.codes import sample_codes
from patchdm.sampling.solve import generators
from patchdm.sampling.solvers import solver

WIDTHS = 1, 2, 4, 8
BETWEEN = 4
"""Codes from one of a field to the next, where they do not blend linearly."""


def main() -> None:
    """Print one table of all runs."""
    parser = arguments(__doc__)
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--positions", nargs="+", default=get_args(Positions))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    ways = [
        (width, *way)
        for width in args.widths
        for way in itertools.product(args.positions, ("one", "linear"))
        if width > 1 or way == (args.positions[0], "one")
    ]
    ways += [(args.widths[-1], "reflect", codes) for codes in ("spherical", "noise")]
    rows = []
    for run in args.runs:
        trained, name = Trained(run), run.absolute().name
        rows += [measured(trained, name, *way, args.images) for way in ways]
    show(f"Panoramas, {args.images} windows of each, {args.threads} threads", rows)


def measured(
    trained: Trained, run: str, width: int, positions: str, codes: str, images: int
) -> dict[str, object]:
    """Return a row: windows of panoramas so many times as wide as training images."""
    windows = 2 * width - 1
    found = panoramas(trained, width, positions, codes, -(-images // windows))
    scores = {**trained.quality(found), "nearer": round(trained.nearer(found), 2)}
    row = {"run": run, "width": f"{width}x", "positions": positions, "codes": codes}
    return row | {"n": len(found)} | scores


def panoramas(trained: Trained, width: int, positions: str, codes: str, count: int) -> np.ndarray:
    """Return windows of `count` panoramas, (n, H, W, 3)."""
    pipe, data, sample = trained.pipe, trained.params.data, trained.params.sample
    pipe.scheduler = solver(trained.scheduler, sample.solver)
    found = []
    for seed in range(count):
        z_T = torch.randn(width, trained.params.model.code_dim, generator=generators([seed])[0])
        anchors = z_T[:1] if codes == "one" else z_T
        (image,) = pipe(
            1,
            data.height,
            width * data.width,
            sample.num_steps,
            sample.guidance_scale,
            cond=FIELDS[codes](trained, anchors)[None, None],
            generator=generators([seed]),
            tiling=sample.tiling,
            positions=f"extrapolate,{positions}",
            output_type="latent",
        ).images
        starts = range(0, width * data.width - data.width + 1, data.width // 2)
        found += [image[None, :, :, at : at + data.width] for at in starts]
    return to_uint8(torch.cat(found))


def _codes(trained: Trained, z_T: Tensor) -> Tensor:
    pipe, steps = trained.pipe, trained.params.latent.num_steps
    return sample_codes(pipe.latent, pipe.latent_scheduler, z_T, num_steps=steps)


def _dense(anchors: Tensor, blend: Callable[[Tensor, Tensor, float], Tensor]) -> Tensor:
    """Return anchors (n, dim) with further ones between them."""
    shares = [step / BETWEEN for step in range(BETWEEN)]
    pairs = itertools.pairwise(anchors)
    between = [blend(a, b, share) for a, b in pairs for share in shares]
    return torch.stack([*between, anchors[-1]])


def _spherical(a: Tensor, b: Tensor, share: float) -> Tensor:
    angle = torch.arccos((a @ b / (a.norm() * b.norm())).clamp(-1, 1))
    return (torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b) / torch.sin(angle)


FIELDS: dict[str, Callable[[Trained, Tensor], Tensor]] = {
    "one": _codes,
    "linear": _codes,
    "spherical": lambda trained, z_T: _dense(_codes(trained, z_T), _spherical),
    "noise": lambda trained, z_T: _codes(trained, _dense(z_T, _spherical)),
}
"""Noise (n, dim) -> codes over the width, between which the canvas is linear."""


if __name__ == "__main__":
    main()
