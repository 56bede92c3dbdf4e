"""Sampling to files: a range of seeds, by any number of processes."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import DiffusionPipeline

from patchdm.choices import Format, Tiling, check_choice
from patchdm.config import Params
from patchdm.devices import one_thread
from patchdm.errors import PatchDMError, one_line
from patchdm.formats.images import Pixels
from patchdm.formats.tensors import to_uint8
from patchdm.grid import PatchGrid
from patchdm.models.unet import PatchUNet
from patchdm.parallel import shared
from patchdm.sampling.checks import check_count, check_guidance
from patchdm.sampling.positions import grid_shape
from patchdm.sampling.solve import generators
from patchdm.sampling.solvers import begin
from patchdm.sampling.write import Draw, write_shards

WORTH_A_START = 2**26
"""Numbers in the first feature maps of all steps and images, above which further processes are
worth their start: about 15 s of the demo."""
END_OF_SEEDS = 2**63 - 1
"""Seeds that torch, the manifest and `len` take end before."""


def generate(
    pipe: DiffusionPipeline,
    seeds: range,
    out: Path,
    *,
    height: int,
    width: int,
    num_inference_steps: int,
    shard_size: int,
    batch_size: int,
    format: Format,  # noqa: A002 - the word of params.yaml
    key: Mapping[str, Any],
    on_progress: Callable[[int], None],
    rows_per_chunk: int | None = None,
    cols_per_chunk: int | None = None,
    **sampling: Any,
) -> bool:
    """Sample one image per seed into shards: a range of any length, by any number of processes.

    Called again with the same arguments, by the same or another process, it checks what is
    finished and goes on; see `write_shards`. Memory and speed (`batch_size`, chunks, device) may
    differ then.

    On a CPU, images of small networks are shared out among as many processes as torch has threads
    here, of one thread each: threads of one image would wait for each other at every operation, and
    all of them for one that another program keeps from its core.

    Args:
        pipe: a PatchDMPipeline (which imports this module); its scheduler is the solver.
        seeds: one image each, which depends on that seed alone.
        out: a new or empty folder, or one that was begun with the same arguments.
        height, width: sides in pixels, multiples of the patch size.
        num_inference_steps: solver steps.
        shard_size: images of a shard: what one process claims.
        batch_size: images denoised together, but on a CPU: see `group_size`.
        format: "png": a shard is a folder of PNG files; "webdataset": a tar of them.
        key: what else the images follow from, as JSON has it; noted in `samples.json`.
        on_progress: called with the number of images finished, as far as this process knows.
        rows_per_chunk, cols_per_chunk: patches worked on at once.
        **sampling: further arguments of the pipeline's call, but for generator and output.

    Returns:
        Whether all is finished; if not, other processes hold the rest.

    Raises:
        PatchDMError: an argument does not fit, or the folder was begun with other ones.
    """
    _check_range(seeds)
    sampling |= {"height": height, "width": width, "num_inference_steps": num_inference_steps}
    chunks: dict[str, Any] = {"rows_per_chunk": rows_per_chunk, "cols_per_chunk": cols_per_chunk}
    try:
        for name, count in {"shard_size": shard_size, "batch_size": batch_size, **chunks}.items():
            if count is not None:
                check_count(name, count)
        check_choice("format", format, Format)
        _check_sampling(pipe, **sampling)
    except ValueError as error:
        raise PatchDMError(one_line(error)) from None

    group = group_size(pipe.unet, width) if pipe.device.type == "cpu" else None
    settings = {
        **key,
        **sampling,
        "first_seed": seeds.start,
        "num_images": len(seeds),
        "shard_size": shard_size,
        "format": format,
        "solver": type(pipe.scheduler).__name__,
        "model": model_hash(pipe),
    }
    rows = height // pipe.unet.config.patch_size + 1
    work = len(seeds) * num_inference_steps * rows * _row_numbers(pipe.unet, width)
    with _drawing(pipe, group, len(seeds), work, **sampling, **chunks) as draw:
        return write_shards(
            draw,
            seeds,
            out,
            shard_size=shard_size,
            batch_size=group or batch_size,
            format=format,
            settings=settings,
            on_progress=on_progress,
        )


@contextlib.contextmanager
def _drawing(
    pipe: DiffusionPipeline, group: int | None, count: int, work: int, **options: Any
) -> Iterator[Draw]:
    """Yield what draws batches here or, where it is faster, in processes of one thread."""
    if group is None or group == 1:
        yield functools.partial(map, functools.partial(_draw, pipe, group, options))
        return
    processes = min(torch.get_num_threads(), math.ceil(count / group))
    if work <= WORTH_A_START:
        processes = 1
    drawing = functools.partial(
        _draw, pickle.dumps(pipe) if processes > 1 else pipe, group, options
    )
    with one_thread(), shared(drawing, processes, knob="sampling") as draw:
        yield draw


def _draw(
    pipe: DiffusionPipeline | bytes,
    group: int | None,
    options: Mapping[str, Any],
    batch: Sequence[int],
) -> Pixels:
    """Return the images of a batch of seeds; a pickled pipeline is that of another process."""
    if isinstance(pipe, bytes):
        torch.set_num_threads(1)
        pipe = _unpickled(pipe)
    drawn = list(batch)
    if group:
        first = batch[0] - batch[0] % group
        drawn = list(range(first, first + group))
    images = pipe(len(drawn), generator=generators(drawn), output_type="latent", **options).images
    return to_uint8(images)[[drawn.index(seed) for seed in batch]]


@functools.lru_cache(maxsize=1)
def _unpickled(pipe: bytes) -> DiffusionPipeline:
    return cast(DiffusionPipeline, pickle.loads(pipe))  # noqa: S301 - pickled by `_drawing`


def group_size(unet: PatchUNet, width: int) -> int:
    """Return how many images go through a network together on a CPU.

    Kernels sum up in another order for another number of patches or place among them. So that an
    image has the same bytes in every batch, shard and process, the seeds from a multiple of this
    number to the next are always computed together. Small networks are faster so; where a row of
    patches fills the cache, an image is computed by itself.
    """
    return max(1, min(16, 2**20 // _row_numbers(unet, width)))


def _row_numbers(unet: PatchUNet, width: int) -> int:
    """Return how many numbers the first feature maps of a row of patches have."""
    config = unet.config
    row = width // config.patch_size + 1
    return int(row * (config.patch_size // config.pixel_fold) ** 2 * config.channels[0])


def sampling_options(params: Params) -> dict[str, Any]:
    """Return what params.yaml says of a pipeline's call."""
    return {
        "num_inference_steps": params.sample.num_steps,
        "guidance_scale": params.sample.guidance_scale,
        "guidance_interval": tuple(params.sample.guidance_interval),
        "tiling": params.sample.tiling,
        "rows_per_chunk": params.machine.rows_per_chunk,
        "latent_num_inference_steps": params.latent.num_steps,
    }


def model_hash(pipe: DiffusionPipeline) -> str:
    """Return 64 hex digits that change with any weight and setting that images follow from."""
    digest = hashlib.sha256()
    for name in ("unet", "scheduler", "latent", "latent_scheduler"):
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


def _check_range(seeds: range) -> None:
    if seeds.step != 1 or not seeds or seeds.start < 0 or seeds.stop > END_OF_SEEDS:
        raise PatchDMError(
            f"seeds: found {seeds.start}:{seeds.stop}, expected FIRST:END with 0 <= FIRST < "
            f"END <= {END_OF_SEEDS}"
        )


def _check_sampling(
    pipe: DiffusionPipeline,
    *,
    height: int,
    width: int,
    num_inference_steps: int,
    guidance_scale: float = 0.0,
    tiling: str = "shifted",
    positions: str = "extrapolate",
    **_: Any,
) -> None:
    """Refuse what the pipeline would refuse, before a file is written."""
    PatchGrid.of(height, width, pipe.unet.config.patch_size)
    grid_shape(pipe.unet.config, positions)
    begin(pipe.scheduler, num_inference_steps)
    check_guidance(pipe.unet, guidance_scale)
    check_choice("tiling", tiling, Tiling)
