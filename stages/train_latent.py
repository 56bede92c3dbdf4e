"""Stage train_latent: train the latent DDPM on the cached codes, write its EMA weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from patchdm.config import Params
from patchdm.console import warn
from patchdm.devices import device_for, one_thread
from patchdm.diffusion.schedules import latent_scheduler
from patchdm.formats.vectors import read_vectors
from patchdm.metrics.codes import code_health
from patchdm.models.latent import LatentMLP
from patchdm.sampling.codes import sample_codes
from patchdm.sampling.solve import generators
from patchdm.training.checkpoint import Checkpoints
from patchdm.training.latent import code_draw, latent_optimizer, latent_training
from patchdm.training.loop import fit, make_accelerator
from patchdm.training.plan import plan_of
from stages import _common as paths
from stages._common import RUN, Run, publish, run_stage, state_dir
from stages._outputs import writing
from stages._training import watched

HEALTH_CODES = 1000
SMALL = 2**16
"""Numbers that a layer makes of a batch, up to which further threads gain a fifth at most."""


def train_latent(params: Params, run: Run = RUN) -> None:
    """Write data/models/latent/ and reports/curves/latent/; both empty without a global code."""
    with state_dir("train_latent", params, [run / paths.CODES], run) as state:
        _, vectors, _ = read_vectors(run / paths.CODES)
        (state / "curves").mkdir(exist_ok=True)
        small = params.latent.batch_size * params.latent.hidden <= SMALL
        with one_thread(small=small):
            average = _train(params, torch.tensor(vectors), state) if len(vectors) else None
        with writing(run / paths.LATENT) as fresh:
            fresh.mkdir()
            if average is not None:
                average.save_pretrained(fresh / "latent")
                latent_scheduler(params.latent.beta).save_pretrained(fresh / "scheduler")
                health = _health(params, average, vectors)
                (state / "curves/health.json").write_text(json.dumps(health, indent=2) + "\n")
        publish(run / paths.LATENT_CURVES, {".": state / "curves"})


def _health(params: Params, latent: LatentMLP, codes: np.ndarray) -> dict[str, float]:
    """Compare codes of the trained model with the table's: see `patchdm.metrics.codes`."""
    seeds = generators(range(HEALTH_CODES))
    z_T = torch.stack([torch.randn(codes.shape[1], generator=seed) for seed in seeds])
    scheduler = latent_scheduler(params.latent.beta)
    sampled = sample_codes(latent, scheduler, z_T, num_steps=params.latent.num_steps)
    health = code_health(sampled.numpy(), codes)
    return {name: round(value, 4) for name, value in health.items()}


def _train(params: Params, codes: Tensor, state: Path) -> LatentMLP:
    config, seed = params.latent, params.base.seed
    device_for(deterministic=params.machine.deterministic, training=True)
    torch.manual_seed(seed)  # initial weights
    module = latent_training(config, codes)
    plan = plan_of(
        config,
        seed=seed,
        items_seen=config.codes_seen,
        micro_batch_size=config.batch_size,
        warmup_items=0,
    )
    with watched("train_latent", state, config.codes_seen, "codes") as (hooks, _):
        return fit(
            module,
            latent_optimizer(module, config),
            code_draw(codes, num_timesteps=module.scheduler.config.num_train_timesteps, seed=seed),
            plan,
            accelerator=make_accelerator(plan, "no"),
            checkpoints=Checkpoints(state, warn),
            hooks=hooks,
        ).latent


if __name__ == "__main__":
    run_stage(train_latent)
