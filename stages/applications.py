"""Stage applications: held-out photographs in- and outpainted, and images beyond the training size.

Inpainting fills a hole in the middle, outpainting makes the right part anew; two ways without a
model do the same. Large samples are made of equal seeds with positions that count on beyond the
training grid and with positions rescaled to it, beside samples of the training size.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from patchdm.backbones import load_backbone
from patchdm.config import Params
from patchdm.console import progress
from patchdm.devices import default_device, one_thread
from patchdm.formats.images import Pixels, contact_sheet, save_png, to_tensor, to_uint8
from patchdm.formats.patch_store import PatchStore
from patchdm.formats.shards import png_name, read_images
from patchdm.metrics.extractors import Extractor, load_extractor
from patchdm.metrics.fidelity import fid
from patchdm.metrics.restoration import mask_seam_score, restoration
from patchdm.metrics.seams import score_of_maps
from patchdm.metrics.statistics import Statistics, collect
from patchdm.pipeline import PatchDMPipeline
from patchdm.sampling.encode import CodeFit
from patchdm.sampling.fill import replicate, telea
from patchdm.sampling.generate import generate, group_size, sampling_options
from patchdm.sampling.solve import generators
from patchdm.sampling.solvers import solver
from patchdm.sampling.write import write_shards
from stages._common import (
    APPLICATION_TABLES,
    APPLICATIONS,
    LATENT,
    PATCHDM,
    PATCHES,
    run_stage,
    state_dir,
    writing,
)

GREY = 128
"""Of masked pixels in the pictures."""

Pictures = dict[str, Iterable[Pixels]]
"""Folder -> its pictures, written as 000000.png, 000001.png, .."""


@dataclass(frozen=True)
class Tools:
    """What the tasks share; `show(n)` says that n images are finished."""

    pipe: PatchDMPipeline
    store: PatchStore
    extractor: Extractor
    state: Path
    show: Callable[[int], None]

    def show_after(self, done: int) -> Callable[[int], None]:
        """Return what shows progress of a task before which so many images were finished."""
        return lambda finished: self.show(done + finished)


def applications(params: Params) -> None:
    """Write data/applications/ (pictures), reports/applications/applications.csv and large.csv."""
    store = PatchStore(PATCHES)
    rows = store.rows("test")[: params.applications.num_images]
    extractor = load_extractor(
        params.evaluate.extractor, _path(params.evaluate.weights), default_device()
    )
    with (
        state_dir("applications", params, [PATCHES, PATCHDM, LATENT]) as state,
        progress("applications", 5 * len(rows), "images") as show,
    ):
        tools = Tools(_pipeline(params), store, extractor, state, show)
        restored, pictures = _restore(params, tools, store.images(rows))
        large, samples = _enlarge(params, tools, rows)
        with writing(APPLICATIONS) as fresh:
            for folder, images in (pictures | samples).items():
                for number, image in enumerate(images):
                    save_png(fresh / folder / png_name(number), image)
        with writing(APPLICATION_TABLES) as fresh:
            fresh.mkdir()
            restored.to_csv(fresh / "applications.csv", index=False)
            large.to_csv(fresh / "large.csv", index=False)


def _restore(
    params: Params, tools: Tools, photographs: Pixels
) -> tuple[pd.DataFrame, dict[str, Iterable[Pixels]]]:
    """In- and outpaint: the scores of each method, and its version of each photograph in a row."""
    fit, table, pictures = _fit(params), [], {}
    for number, (task, mask) in enumerate(_masks(params).items()):
        made = _by_model(params, tools, fit, photographs, task, mask, number * len(photographs))
        masks = torch.from_numpy(mask).expand(len(photographs), 1, *mask.shape)
        methods = {
            "Patch-DM": made,
            "edge replication": to_uint8(replicate(to_tensor(photographs), masks)),
            "OpenCV Telea": telea(photographs, mask),
        }
        for method, images in methods.items():
            scores = restoration(images, photographs, mask, tools.extractor)
            table.append((task, method, len(images), *scores))
        seam = mask_seam_score(photographs, mask)
        table.append((task, "photographs", len(photographs), None, None, seam))
        masked = np.where(mask[..., None], np.uint8(GREY), photographs)
        versions = zip(photographs, masked, *methods.values(), strict=True)
        pictures[task] = [contact_sheet(np.stack(each), len(each)) for each in versions]
    distance = f"{tools.extractor.label} distance"
    columns = ["task", "method", "n", "masked PSNR", distance, "mask seam"]
    return pd.DataFrame(table, columns=columns).round(3), pictures


def _by_model(
    params: Params,
    tools: Tools,
    fit: CodeFit | None,
    photographs: Pixels,
    task: str,
    mask: np.ndarray,
    done: int,
) -> Pixels:
    """Let the model in- or outpaint photographs, the seed of each being its number."""
    config, size = params.applications, params.sample.batch_size
    cut = int(mask[0].sum())  # columns on the right, in outpainting
    options = sampling_options(params) | {
        "num_inference_steps": config.num_steps,
        "code": config.code,
        "fit": fit,
        "resamplings": config.resamplings,
        "blend_width": config.blend_width,
        "output_type": "latent",
    }

    def draw(seeds: Sequence[int]) -> Pixels:
        x0, each = to_tensor(photographs[list(seeds)]), options | {"generator": generators(seeds)}
        if task == "inpainting":
            return to_uint8(tools.pipe.inpaint(x0, torch.from_numpy(mask), **each).images)
        return to_uint8(tools.pipe.outpaint(x0[..., :-cut], right=cut, **each).images)

    with one_thread(small=group_size(tools.pipe.unet, params.data.width) > 1):
        write_shards(
            functools.partial(map, draw),
            range(len(photographs)),
            tools.state / task,
            shard_size=size,
            batch_size=size,
            format="png",
            settings={},
            on_progress=tools.show_after(done),
        )
    return np.stack([image for _, image in read_images(tools.state / task)])


def _enlarge(
    params: Params, tools: Tools, rows: np.ndarray
) -> tuple[pd.DataFrame, dict[str, Iterable[Pixels]]]:
    """Sample beyond the training size: seams, FID of as many crops as large, and the samples."""
    config, store, seeds = params.applications, tools.store, range(len(rows))
    small, large = (store.width, store.height), (config.large_width, config.large_height)
    options = sampling_options(params)
    options |= {"num_inference_steps": config.num_steps}
    tools.pipe.scheduler = solver(tools.pipe.scheduler, params.sample.solver)

    train = store.rows("train")
    real = _statistics(params, tools, _photographs(store, train), len(train)).crops
    found = {
        "photographs": (small, _statistics(params, tools, _photographs(store, rows), len(rows)))
    }
    pictures: Pictures = {}
    sets = {
        "training-size": (small, "extrapolate"),
        "extrapolated": (large, "extrapolate"),
        "rescaled": (large, "rescale"),
    }
    for number, (name, (size, positions)) in enumerate(sets.items(), start=2):
        batch = max(1, params.sample.batch_size * small[0] * small[1] // (size[0] * size[1]))
        generate(
            tools.pipe,
            seeds,
            tools.state / name,
            height=size[1],
            width=size[0],
            shard_size=batch,
            batch_size=batch,
            format="png",
            key={},
            on_progress=tools.show_after(number * len(seeds)),
            positions=positions,
            **options,
        )
        samples = read_images(tools.state / name)
        found[name] = (size, _statistics(params, tools, samples, len(seeds)))
        pictures[name] = (image for _, image in read_images(tools.state / name))
    table = []
    for name, (size, statistics) in found.items():
        maps, p = statistics.steps.means(), params.model.patch_size
        seams = score_of_maps(*maps, p), score_of_maps(*maps, p, p // 2)
        crops = statistics.crops
        table.append((name, *size, statistics.steps.count, *seams, crops.count, fid(crops, real)))
    crop_fid = f"crop-FID-{tools.extractor.label} ({min(small)} pixels)"
    columns = ["set", "width", "height", "n", "seam", "seam_padded", "crops", crop_fid]
    return pd.DataFrame(table, columns=columns).round(3), pictures


def _statistics(
    params: Params, tools: Tools, images: Iterator[tuple[int, Pixels]], count: int
) -> Statistics:
    """Return statistics with crops as large as a training image is high.

    Each image has as many as training images fit into a large one, of whatever size it is: FID
    depends on how many there are.
    """
    config, store = params.applications, tools.store
    area = store.width * store.height

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        while batch := list(itertools.islice(images, params.evaluate.batch_size)):
            keys, pixels = zip(*batch, strict=True)
            yield np.array(keys), np.stack(pixels)

    return collect(
        batches(),
        count,
        tools.extractor,
        crop_size=min(store.width, store.height),
        crops_per_image=max(1, config.large_width * config.large_height // area),
        seed=params.base.seed,
    )


def _masks(params: Params) -> dict[str, np.ndarray]:
    """Return the (H, W) mask of each task, True where a photograph is made anew."""
    shape = (params.data.height, params.data.width)
    height, width = (
        min(max(round(params.applications.hole * side), 1), side - 1) for side in shape
    )
    hole, right = np.zeros(shape, bool), np.zeros(shape, bool)
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    hole[top : top + height, left : left + width] = True
    right[:, -width:] = True
    return {"inpainting": hole, "outpainting": right}


def _photographs(store: PatchStore, rows: np.ndarray) -> Iterator[tuple[int, Pixels]]:
    return ((row, store.images([row])[0]) for row in rows.tolist())


def _fit(params: Params) -> CodeFit | None:
    """Return how codes are fitted to photographs; None where they come from elsewhere."""
    config = params.applications
    if params.model.code != "table" or config.code != "image":
        return None
    backbone = load_backbone(params.features.backbone, _path(params.features.weights), "cpu")
    return CodeFit(
        backbone.features,
        num_steps=config.code_steps,
        windows=config.code_windows,
        learning_rate=config.code_learning_rate,
    )


def _pipeline(params: Params) -> PatchDMPipeline:
    pipe = PatchDMPipeline.from_stages(PATCHDM, LATENT if params.model.code != "none" else None)
    pipe.set_progress_bar_config(disable=True)  # the stage has its own
    return pipe.to(default_device())


def _path(name: str | None) -> Path | None:
    return Path(name) if name else None


if __name__ == "__main__":
    run_stage(applications)
