"""Stage sample: images from the EMA weights, one PNG a seed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import torch

from patchdm.config import Params
from patchdm.data.images import read_image, save_png, to_uint8
from patchdm.errors import PatchDMError
from patchdm.files import replacing, sha256
from patchdm.pipeline import PatchDMPipeline
from patchdm.sampling.generate import generators
from stages._common import LATENT, PATCHDM, SAMPLES, progress, run_stage, state_dir


def sample(params: Params) -> None:
    """Write data/samples/: 000123.png for seed 123, and manifest.parquet (seed, sha256)."""
    config = params.sample
    seeds = range(config.first_seed, config.first_seed + config.num_images)
    sections = [params.base, params.data, params.model, params.latent, params.sample]
    with (
        state_dir("sample", sections, [PATCHDM, LATENT]) as state,
        progress("sample", len(seeds), "images") as show,
    ):
        pipe = _pipeline(params)
        # Batches start at fixed seeds: a resumed run repeats the batch that was cut off.
        for start in range(0, len(seeds), config.batch_size):
            batch = seeds[start : start + config.batch_size]
            if not all(_is_whole(state / png_name(seed)) for seed in batch):
                images = pipe(
                    len(batch),
                    params.data.height,
                    params.data.width,
                    num_inference_steps=config.num_steps,
                    guidance_scale=config.guidance_scale,
                    generator=generators(batch),
                    output_type="latent",
                    tiling=config.tiling,
                    latent_num_inference_steps=params.latent.num_steps,
                ).images
                for seed, image in zip(batch, to_uint8(images), strict=True):
                    save_png(state / png_name(seed), image)
            show(start + len(batch))
        _publish(state, seeds)


def png_name(seed: int) -> str:
    """Return the file name of a seed's image."""
    return f"{seed:06d}.png"


def _pipeline(params: Params) -> PatchDMPipeline:
    pipe = PatchDMPipeline.from_stages(PATCHDM, LATENT if params.model.code != "none" else None)
    pipe.set_progress_bar_config(disable=True)  # the stage has its own
    return pipe.to("cuda" if torch.cuda.is_available() else "cpu")


def _is_whole(path: Path) -> bool:
    """Whether an earlier run finished this image; a damaged one is made again."""
    try:
        read_image(path)
    except PatchDMError:
        return False
    return True


def _publish(state: Path, seeds: range) -> None:
    with replacing(SAMPLES) as fresh:
        fresh.mkdir()
        for seed in seeds:
            shutil.copyfile(state / png_name(seed), fresh / png_name(seed))
        hashes = [sha256(fresh / png_name(seed)) for seed in seeds]
        files = [png_name(seed) for seed in seeds]
        columns = {"seed": list(seeds), "shard": ".", "file": files, "sha256": hashes}
        manifest = pd.DataFrame(columns)
        manifest.to_parquet(fresh / "manifest.parquet", index=False)


if __name__ == "__main__":
    run_stage(sample)
