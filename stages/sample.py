"""Stage sample: images from the EMA weights, one a seed, in shards with a manifest."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from patchdm.config import Params
from patchdm.console import progress, say
from patchdm.devices import cast, device_for
from patchdm.files import link_or_copy
from patchdm.pipeline import PatchDMPipeline
from patchdm.sampling.generate import generate
from patchdm.sampling.seeds import sampling_options
from patchdm.sampling.solvers import solver
from stages._common import LATENT, PATCHDM, RUN, SAMPLES, Run, run_stage, state_dir
from stages._declared import params_digest
from stages._outputs import writing


def sample(params: Params, run: Run = RUN) -> None:
    """Write data/samples/: shards, manifest.parquet and samples.json, what they follow from."""
    config = params.sample
    seeds = range(config.first_seed, config.first_seed + config.num_images)
    models = [run / PATCHDM, run / LATENT]
    with (
        state_dir("sample", params, models, run) as state,
        progress("sample", len(seeds), "images") as show,
    ):
        if (state / "samples").is_dir():
            say("sample: resumed, what is there is checked first")
        generate(
            _pipeline(params, *models),
            seeds,
            state / "samples",
            height=params.data.height,
            width=params.data.width,
            shard_size=config.shard_size,
            batch_size=config.batch_size,
            format=config.format,
            key={"params_hash": params_digest("sample", params)},
            on_progress=show,
            gpus=torch.cuda.device_count(),
            **sampling_options(params),
        )
        with writing(run / SAMPLES) as fresh:
            hidden = shutil.ignore_patterns(".*")
            shutil.copytree(state / "samples", fresh, copy_function=link_or_copy, ignore=hidden)


def _pipeline(params: Params, patchdm: Path, latent: Path) -> PatchDMPipeline:
    pipe = PatchDMPipeline.from_stages(patchdm, latent if params.model.code != "none" else None)
    pipe.scheduler = solver(pipe.scheduler, params.sample.solver)
    cast(pipe.unet, params.sample.mixed_precision)
    pipe.set_progress_bar_config(disable=True)  # the stage has its own
    if params.sample.compile:
        pipe.unet.compile()
    return pipe.to(device_for(deterministic=params.machine.deterministic))


if __name__ == "__main__":
    run_stage(sample)
