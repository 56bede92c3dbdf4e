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
from patchdm.sampling.generate import Sampler
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
        sampler = _sampler(params)
        # Batches start at fixed seeds: a resumed run repeats the batch that was cut off.
        for start in range(0, len(seeds), config.batch_size):
            batch = seeds[start : start + config.batch_size]
            if not all(_is_whole(state / png_name(seed)) for seed in batch):
                images = to_uint8(sampler(batch, params.data.height, params.data.width))
                for seed, image in zip(batch, images, strict=True):
                    save_png(state / png_name(seed), image)
            show(start + len(batch))
        _publish(state, seeds)


def png_name(seed: int) -> str:
    """Return the file name of a seed's image."""
    return f"{seed:06d}.png"


def _sampler(params: Params) -> Sampler:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = params.sample
    return Sampler.load(
        PATCHDM,
        LATENT if params.model.code != "none" else None,
        num_steps=config.num_steps,
        latent_steps=params.latent.num_steps,
        guidance_scale=config.guidance_scale,
        tiling=config.tiling,
        device=device,
    )


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
        manifest = pd.DataFrame({"seed": list(seeds), "sha256": hashes})
        manifest.to_parquet(fresh / "manifest.parquet", index=False)


if __name__ == "__main__":
    run_stage(sample)
