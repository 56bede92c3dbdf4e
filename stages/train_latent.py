"""Stage train_latent: train the latent DDPM on the cached codes, write its EMA weights."""

from __future__ import annotations

from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from patchdm.config import Params
from patchdm.data.vectors import read_vectors
from patchdm.diffusion.schedules import latent_scheduler
from patchdm.files import replacing
from patchdm.models.build import build_latent
from patchdm.models.latent import LatentMLP
from patchdm.training.checkpoint import Checkpoints
from patchdm.training.latent import LatentTraining, code_draw
from patchdm.training.loop import Hooks, Plan, fit
from stages._common import (
    CODES,
    LATENT,
    LATENT_CURVES,
    deferred_sigterm,
    live_curves,
    progress,
    publish,
    run_stage,
    state_dir,
    warn,
)


def train_latent(params: Params) -> None:
    """Write data/models/latent/ and reports/curves/latent/; both empty without a global code."""
    with state_dir("train_latent", [params.base, params.latent], [CODES]) as state:
        _, vectors, _ = read_vectors(CODES)
        (state / "curves").mkdir(exist_ok=True)
        average = _train(params, torch.tensor(vectors), state) if len(vectors) else None
        with replacing(LATENT) as fresh:
            fresh.mkdir()
            if average is not None:
                average.save_pretrained(fresh / "latent")
                latent_scheduler(params.latent.beta).save_pretrained(fresh / "scheduler")
        publish(LATENT_CURVES, {".": state / "curves"})


def _train(params: Params, codes: Tensor, state: Path) -> LatentMLP:
    config = params.latent
    torch.manual_seed(params.base.seed)  # initial weights
    latent = build_latent(config, codes.shape[1])
    latent.fit_normalization(codes)
    scheduler = latent_scheduler(config.beta)
    module = LatentTraining(latent, scheduler)
    with (
        live_curves(state / "curves") as report,
        progress("train_latent", config.codes_seen, "codes") as show,
        deferred_sigterm() as stop_requested,
    ):
        average = fit(
            module,
            torch.optim.AdamW(
                latent.parameters(),
                lr=config.learning_rate,
                weight_decay=config.weight_decay,
                fused=True,
            ),
            code_draw(
                codes,
                config.batch_size,
                num_timesteps=scheduler.config.num_train_timesteps,
                seed=params.base.seed,
            ),
            Plan(
                seed=params.base.seed,
                items_seen=config.codes_seen,
                batch_size=config.batch_size,
                warmup_items=0,
                lr_decay=config.lr_decay,
                ema_decay=config.ema_decay,
                ema_warmup=config.ema_warmup,
                grad_clip=config.grad_clip,
                log_every=config.log_every,
                checkpoint_every=config.checkpoint_every,
            ),
            accelerator=Accelerator(mixed_precision="no"),
            checkpoints=Checkpoints(state, warn),
            hooks=Hooks(report=report, progress=show, stop_requested=stop_requested),
        )
    return average.latent


if __name__ == "__main__":
    run_stage(train_latent)
