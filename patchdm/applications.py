"""What a model does beyond sampling images of its training size, measured.

Inpainting fills a hole in the middle of photographs, outpainting makes their right part; two ways
without a model do the same. Large samples are made of equal seeds with positions that count on
beyond the training grid and with positions rescaled to it, next to samples of the training size.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from patchdm.config import Applications
from patchdm.devices import one_thread
from patchdm.formats.images import Pixels, contact_sheet
from patchdm.formats.patch_store import PatchStore
from patchdm.formats.shards import read_images
from patchdm.formats.tensors import to_tensor, to_uint8
from patchdm.metrics.fidelity import fid
from patchdm.metrics.images import Keyed, batched, photographs_of
from patchdm.metrics.judge import Judge
from patchdm.metrics.moments import Moments
from patchdm.metrics.repetition import parts_of, repetition
from patchdm.metrics.restoration import restorations, spread
from patchdm.metrics.seams import StepMaps, score_of_maps
from patchdm.metrics.statistics import collect_crops
from patchdm.pipeline import PatchDMPipeline
from patchdm.sampling.encode import CodeFit
from patchdm.sampling.fill import replicate, telea
from patchdm.sampling.generate import generate
from patchdm.sampling.seeds import group_size
from patchdm.sampling.solve import generators
from patchdm.sampling.write import write_shards

GREY = 128
"""Of masked pixels in the pictures."""
SEEDS, AGAIN = 4, 4
"""How many seeds the first photographs are restored by, and how many photographs that are."""

Pictures = dict[str, Iterable[Pixels]]
"""Folder -> its pictures, (h, w, 3) uint8 each."""


@dataclass(frozen=True)
class Tools:
    """What the tasks share: the model, the photographs, and what measures.

    `options` are those of the pipeline's calls, `batch_size` images of the training size are drawn
    together, in `state` a killed task finds its progress again, and `show(n)` says that n images
    are finished, of all tasks.
    """

    pipe: PatchDMPipeline
    store: PatchStore
    judge: Judge
    config: Applications
    options: Mapping[str, Any]
    batch_size: int
    state: Path
    show: Callable[[int], None]

    def drawing(self, done: int, batch: int) -> dict[str, Any]:
        """Return how images are written of a task before which so many were finished."""
        # One shard: on a CPU a batch is drawn whole for every shard that it reaches into.
        sizes = {"shard_size": self.config.num_images, "batch_size": batch, "format": "png"}
        return {**sizes, "on_progress": lambda finished: self.show(done + finished)}


def restore(
    tools: Tools, rows: NDArray[np.int64], fit: CodeFit | None
) -> tuple[pd.DataFrame, Pictures]:
    """In- and outpaint photographs of the store.

    Args:
        tools, rows: the model and what measures; which photographs, (n,).
        fit: how codes are fitted to them; None where they come from elsewhere.

    Returns:
        The scores of each task and method, and for each task the pictures of n photographs, each
        with its known part and the version of each method, from left to right; of the first
        photographs also the versions of several seeds.
    """
    extractor, photographs = tools.judge.extractor, tools.store.images(rows)
    unseen = photographs_of(tools.store, tools.store.rows("test"))
    batches = batched(unseen, tools.judge.config.batch_size)
    others = np.concatenate([extractor.features(images).pooled for _, images in batches])
    table: list[tuple[Any, ...]] = []
    pictures: Pictures = {}
    numbers, count = drawn(len(rows)), len(rows)
    for before, (task, mask) in enumerate(_masks(tools).items()):
        done = before * len(numbers)
        made = _by_model(tools, photographs[numbers], task, mask, fit, done=done)
        masks = torch.from_numpy(mask).expand(count, 1, *mask.shape)
        methods = {
            "Patch-DM": made[:count],
            "edge replication": to_uint8(replicate(to_tensor(photographs), masks)),
            "OpenCV Telea": telea(photographs, mask),
        }
        first = min(AGAIN, count)
        seeds = np.concatenate([made[:first], made[count:]]).reshape(SEEDS, first, *made.shape[1:])
        originals = {**methods, "photographs": photographs}
        scores = restorations(originals.values(), photographs, mask, extractor, others)
        for method, (psnr, distance, kid, seam) in zip(originals, scores, strict=True):
            new = (psnr, distance) if method in methods else (None, None)
            varied = spread(seeds, mask) if method == "Patch-DM" else None
            table.append((task, method, count, *new, kid, seam, varied))
        known = np.where(mask[..., None], np.uint8(GREY), photographs)
        pictures[task] = _strips(photographs, known, *methods.values())
        pictures[f"{task}-seeds"] = _strips(photographs[:first], known[:first], *seeds)
    scores_of = [f"{extractor.label} distance", f"KID-{extractor.label}", "mask seam", "spread"]
    columns = ["task", "method", "n", "masked PSNR", *scores_of]
    return pd.DataFrame(table, columns=columns).round(3), pictures


def drawn(count: int) -> NDArray[np.int64]:
    """Return which of so many photographs is restored by each seed: all, and the first again."""
    return np.concatenate([np.arange(count), np.tile(np.arange(min(AGAIN, count)), SEEDS - 1)])


def _strips(*versions: Pixels) -> list[Pixels]:
    """Put the versions (n, H, W, 3) of each image side by side."""
    return [contact_sheet(np.stack(each), len(each)) for each in zip(*versions, strict=True)]


def enlarge(tools: Tools, rows: NDArray[np.int64], done: int) -> tuple[pd.DataFrame, Pictures]:
    """Sample beyond the training size, as many images as there are `rows` of photographs.

    Args:
        tools, rows: the model and what measures; the photographs measured next to them, (n,).
        done: images finished before.

    Returns:
        Of each set its size, seams, repetition and FID of crops; and the samples. Repetition is
        that of as many equal parts of each image as training images fit into a large one.
    """
    store, large = tools.store, (tools.config.large_width, tools.config.large_height)
    small, count, p = (store.width, store.height), len(rows), tools.judge.patch_size
    fitting = large[0] * large[1] // (small[0] * small[1])
    # FID depends on how many crops there are: an image of either size has as many, as large as a
    # training image is high, as training images fit into a large one.
    crops = {"crop_size": min(small), "crops_per_image": max(1, fitting)}
    judge = replace(tools.judge, config=tools.judge.config.model_copy(update=crops))
    grid = max(1, large[1] // small[1]), max(1, large[0] // small[0])

    def measured(images: Iterable[Keyed]) -> tuple[Moments, StepMaps]:
        return collect_crops(batched(images, judge.config.batch_size), judge)

    def repeated(images: Iterable[Keyed]) -> float:
        parts = (parts_of(pixels, *grid) for _, pixels in batched(images, 1))
        features = [judge.extractor.features(of_image).pooled for of_image in parts]
        return repetition(np.stack(features))

    table: list[tuple[Any, ...]] = []
    real, _ = measured(photographs_of(store, store.rows("train")))
    pictures: Pictures = {}
    for name, (size, positions) in {
        "photographs": (small, ""),
        "training-size": (small, "extrapolate"),
        "extrapolated": (large, "extrapolate"),
        "rescaled": (large, "rescale"),
    }.items():
        folder = tools.state / name
        if positions:
            _sample(tools, count, folder, *size, positions, done + len(pictures) * count)
            pictures[name] = (image for _, image in read_images(folder))
        found, steps = measured(read_images(folder) if positions else photographs_of(store, rows))
        again = repeated(read_images(folder) if positions else photographs_of(store, rows))
        maps = steps.means()
        seams = score_of_maps(*maps, p), score_of_maps(*maps, p, p // 2)
        table.append((name, *size, count, *seams, again, found.count, fid(found, real)))
    crop_fid = f"crop-FID-{judge.extractor.label} ({min(small)} pixels)"
    columns = [
        "set",
        "width",
        "height",
        "n",
        "seam",
        "seam_padded",
        "repetition",
        "crops",
        crop_fid,
    ]
    return pd.DataFrame(table, columns=columns).round(3), pictures


def _masks(tools: Tools) -> dict[str, NDArray[np.bool_]]:
    """Return the (H, W) mask of each task, True where a photograph is made."""
    shape = (tools.store.height, tools.store.width)
    height, width = (min(max(round(tools.config.hole * side), 1), side - 1) for side in shape)
    hole, right = np.zeros(shape, bool), np.zeros(shape, bool)
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    hole[top : top + height, left : left + width] = True
    right[:, -width:] = True
    return {"inpainting": hole, "outpainting": right}


def _by_model(
    tools: Tools,
    photographs: Pixels,
    task: str,
    mask: NDArray[np.bool_],
    fit: CodeFit | None,
    *,
    done: int,
) -> Pixels:
    """Let the model in- or outpaint photographs, the seed of each being its number."""
    config, cut = tools.config, int(mask[0].sum())  # columns on the right, in outpainting
    options = {**tools.options, "fit": fit, "output_type": "latent", "return_dict": False}
    options |= config.model_dump(include={"code", "tiling", "resamplings", "blend_width"})

    def draw(seeds: Sequence[int]) -> Pixels:
        x0, each = to_tensor(photographs[list(seeds)]), options | {"generator": generators(seeds)}
        if task == "inpainting":
            return to_uint8(tools.pipe.inpaint(x0, torch.from_numpy(mask), **each)[0])
        return to_uint8(tools.pipe.outpaint(x0[..., :-cut], right=cut, **each)[0])

    small = group_size(tools.pipe.unet, tools.store.width) > 1
    # Threads of one small operation would wait for each other; those of batches need not.
    workers = torch.get_num_threads() if small and tools.pipe.device.type == "cpu" else 1
    batch = min(tools.batch_size, math.ceil(len(photographs) / workers))
    with one_thread(small=small), ThreadPoolExecutor(workers) as pool:
        write_shards(
            functools.partial(pool.map, draw) if workers > 1 else functools.partial(map, draw),
            range(len(photographs)),
            tools.state / task,
            settings={},
            **tools.drawing(done, batch),
        )
    return np.stack([image for _, image in read_images(tools.state / task)])


def _sample(
    tools: Tools, count: int, folder: Path, width: int, height: int, positions: str, done: int
) -> None:
    area = tools.store.width * tools.store.height
    batch = max(1, tools.batch_size * area // (width * height))
    options = tools.drawing(done, batch) | {"key": {}, "positions": positions, **tools.options}
    generate(tools.pipe, range(count), folder, height=height, width=width, **options)
