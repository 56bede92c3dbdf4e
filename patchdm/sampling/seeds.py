"""Images of seeds: what they follow from, and which are computed together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from patchdm.choices import SampleCode, Tiling, check_choice
from patchdm.formats.images import Pixels
from patchdm.formats.tensors import to_uint8
from patchdm.grid import PatchGrid
from patchdm.models.unet import PatchUNet
from patchdm.sampling.checks import check_guidance
from patchdm.sampling.denoise import row_numbers
from patchdm.sampling.positions import checked_wrap, placing
from patchdm.sampling.solve import generators
from patchdm.sampling.solvers import begin

if TYPE_CHECKING:  # see `patchdm.diffusion.schedules`
    from patchdm.config import Params


def sampling_options(params: Params) -> dict[str, Any]:
    """Return what params.yaml says of a pipeline's call."""
    return {
        "num_inference_steps": params.sample.num_steps,
        "guidance_scale": params.sample.guidance_scale,
        "code": params.sample.code,
        "guidance_interval": tuple(params.sample.guidance_interval),
        "tiling": params.sample.tiling,
        "rows_per_chunk": params.machine.rows_per_chunk,
        "latent_num_inference_steps": params.latent.num_steps,
    }


def check_sampling(
    pipe: DiffusionPipeline,
    *,
    height: int,
    width: int,
    num_inference_steps: int,
    guidance_scale: float = 0.0,
    code: str = "latent",
    code_seed: int | None = None,
    tiling: str = "shifted",
    positions: str = "extrapolate",
    wrap: str = "none",
    **_: Any,
) -> None:
    """Refuse what the pipeline would refuse, before a file is written."""
    config = pipe.unet.config
    grid = PatchGrid.of(height, width, config.patch_size)
    placing(config, positions, grid, checked_wrap(wrap, config.collage))
    begin(pipe.scheduler, num_inference_steps)
    check_guidance(pipe.unet, guidance_scale)
    check_choice("code", code, SampleCode)
    if code_seed is not None and (pipe.latent is None or code != "latent"):
        raise ValueError(f"`code_seed` is {code_seed}, expected None: codes are not sampled")
    check_choice("tiling", tiling, Tiling)


def model_hash(pipe: DiffusionPipeline, code: str = "latent") -> str:
    """Return 64 hex digits that change with any weight and setting that images follow from."""
    codes = {"latent": ("latent", "latent_scheduler"), "training": ("code_table",)}
    digest = hashlib.sha256()
    for name in ("unet", "scheduler", *codes[code]):
        part = getattr(pipe, name)
        if part is not None:
            config = {key: part.config[key] for key in part.config if not key.startswith("_")}
            digest.update(json.dumps([name, type(part).__name__, config], sort_keys=True).encode())
        if isinstance(part, torch.nn.Module):
            for key, tensor in sorted(part.state_dict().items()):
                digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
                flat = tensor.detach().cpu().contiguous().reshape(-1)
                digest.update(flat.view(torch.uint8).numpy())
    return digest.hexdigest()


def group_size(unet: PatchUNet, width: int) -> int:
    """Return how many images go through a network together on a CPU.

    Kernels sum up in another order for another number of patches or place among them. So that an
    image has the same bytes in every batch, shard and process, the seeds from a multiple of this
    number to the next are always computed together. Small networks are faster so; where a row of
    patches fills the cache, an image is computed by itself.
    """
    cols = width // unet.config.patch_size
    return max(1, min(16, 2**20 // row_numbers(unet, cols)))


def draw_group(
    group: int,
    within: range,
    options: Mapping[str, Any],
    code_seed: int | None,
    pipe: DiffusionPipeline,
    batch: Sequence[int],
) -> Pixels:
    """Return the images of some seeds of a group; all of it that is `within` is computed."""
    first = batch[0] - batch[0] % group
    drawn = [seed for seed in range(first, first + group) if seed in within]
    cond = None
    if code_seed is not None:
        code = codes_of_seeds(pipe, [code_seed], options["latent_num_inference_steps"])
        cond = code.expand(len(drawn), -1)
    images = pipe(
        len(drawn), generator=generators(drawn), cond=cond, output_type="latent", **options
    ).images
    return to_uint8(images)[[drawn.index(seed) for seed in batch]]


def codes_of_seeds(pipe: DiffusionPipeline, seeds: Sequence[int], num_steps: int) -> Tensor:
    """Return the codes that images of the training size get of their seeds, (n, code_dim)."""
    drawn = generators(seeds)
    shape = pipe.unet.config.in_channels, *(pipe.unet.config.sample_size or (1, 1))
    pipe.gaussian(len(seeds), shape, drawn)  # x_T comes first
    codes: Tensor = pipe.sample_codes(len(seeds), drawn, num_steps)
    return codes
