"""Sampling to files: a range of seeds, by any number of processes."""

from __future__ import annotations

import contextlib
import functools
import math
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import DiffusionPipeline

from patchdm.choices import Format, check_choice
from patchdm.devices import device_for, one_thread
from patchdm.errors import PatchDMError, one_line
from patchdm.formats.images import Pixels
from patchdm.parallel import process_number, shared
from patchdm.sampling.checks import check_count
from patchdm.sampling.denoise import row_numbers
from patchdm.sampling.seeds import check_sampling, draw_group, group_size, model_hash
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
    gpus: int = 1,
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
    all of them for one that another program keeps from its core. On GPUs each has a process.

    Args:
        pipe: a PatchDMPipeline (which imports this module); its scheduler is the solver.
        seeds: one image each, which depends on that seed alone.
        out: a new or empty folder, or one that was begun with the same arguments.
        height, width: sides in pixels, multiples of the patch size.
        num_inference_steps: solver steps.
        shard_size: images of a shard: what one process claims.
        batch_size: images denoised together, but on a CPU: see `group_size`. They are those of the
            seeds from a multiple of it to the next, even where some of them are there already: a
            GPU's kernels, too, round in another way for another number of patches.
        format: "png": a shard is a folder of PNG files; "webdataset": a tar of them.
        key: what else the images follow from, as JSON has it; noted in `samples.json`.
        on_progress: called with the number of images finished, as far as this process knows.
        gpus: how many share the batches, if the pipeline is on one: "cuda:0" and so on.
        rows_per_chunk, cols_per_chunk: patches worked on at once.
        **sampling: further arguments of the pipeline's call, but for generator and output; and
            `code_seed`, whose code all images get.

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
        check_sampling(pipe, **sampling)
    except ValueError as error:
        raise PatchDMError(one_line(error)) from None

    on_cpu = pipe.device.type == "cpu"
    group = group_size(pipe.unet, width) if on_cpu else batch_size
    settings = {
        **key,
        **sampling,
        "first_seed": seeds.start,
        "num_images": len(seeds),
        "shard_size": shard_size,
        "format": format,
        "solver": type(pipe.scheduler).__name__,
        "model": model_hash(pipe, sampling.get("code", "latent")),
    }
    rows, cols = (side // pipe.unet.config.patch_size for side in (height, width))
    work = len(seeds) * num_inference_steps * (rows + 1) * row_numbers(pipe.unet, cols)
    shares = _shares(pipe.device.type, group, work, gpus)
    processes = min(shares, math.ceil(len(seeds) / group))
    # On a CPU a group is whole in every range of seeds, for the same bytes; on a GPU it is large.
    within = range(2**64) if on_cpu else seeds
    options = {"latent_num_inference_steps": 50} | sampling | chunks
    drawing = functools.partial(draw_group, group, within, options, options.pop("code_seed", None))
    with one_thread(small=on_cpu and group > 1), _shared(drawing, pipe, processes) as draw:
        return write_shards(
            draw,
            seeds,
            out,
            shard_size=shard_size,
            batch_size=group,
            format=format,
            settings=settings,
            on_progress=on_progress,
        )


def _shares(device: str, group: int, work: int, gpus: int) -> int:
    """Return among how many processes work is shared out, if there are as many batches."""
    if device == "cpu":
        return torch.get_num_threads() if group > 1 and work > WORTH_A_START else 1
    return gpus if device == "cuda" else 1


@contextlib.contextmanager
def _shared(
    draw: Callable[[DiffusionPipeline, Sequence[int]], Pixels],
    pipe: DiffusionPipeline,
    processes: int,
) -> Iterator[Draw]:
    """Yield what draws batches: here, or in processes of one thread and, of a GPU, one each."""
    if processes == 1:
        yield functools.partial(map, functools.partial(draw, pipe))
        return
    device = pipe.device
    pickled = pickle.dumps(pipe.to("cpu", silence_dtype_warnings=True))
    pipe.to(device)
    modes = torch.are_deterministic_algorithms_enabled(), pipe.unet.is_compiled
    there = functools.partial(_draw_there, draw, pickled, device.type, *modes)
    with shared(there, processes, knob="sampling") as mapped:
        yield mapped


def _draw_there(
    draw: Callable[[DiffusionPipeline, Sequence[int]], Pixels],
    pickled: bytes,
    device: str,
    deterministic: bool,
    compiled: bool,
    batch: Sequence[int],
) -> Pixels:
    """Draw a batch in a process of `shared`."""
    return draw(_begun(pickled, device, deterministic, compiled), batch)


@functools.lru_cache(maxsize=1)
def _begun(pickled: bytes, device: str, deterministic: bool, compiled: bool) -> DiffusionPipeline:
    """Begin to draw in a process of `shared`, on one thread and, of GPUs, on that of its number."""
    torch.set_num_threads(1)
    device_for(deterministic=deterministic)
    pipe = cast(DiffusionPipeline, pickle.loads(pickled))  # noqa: S301 - by `_shared`
    if compiled:
        pipe.unet.compile()
    return pipe.to("cpu" if device == "cpu" else f"{device}:{process_number()}")


def _check_range(seeds: range) -> None:
    if seeds.step != 1 or not seeds or seeds.start < 0 or seeds.stop > END_OF_SEEDS:
        raise PatchDMError(
            f"seeds: found {seeds.start}:{seeds.stop}, expected FIRST:END with 0 <= FIRST < "
            f"END <= {END_OF_SEEDS}"
        )
