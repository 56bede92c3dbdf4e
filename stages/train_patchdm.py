"""Stage train_patchdm: train the U-Net and the global code, write their EMA weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from patchdm.config import Params, check_counts
from patchdm.console import warn
from patchdm.diffusion.schedules import image_scheduler
from patchdm.errors import PatchDMError
from patchdm.formats.images import contact_sheet, save_png, to_tensor, to_uint8
from patchdm.formats.patch_store import PatchStore
from patchdm.formats.vectors import read_vectors
from patchdm.grid import PatchGrid
from patchdm.models.build import build_code, build_unet
from patchdm.models.semantic import CodeTable, SemanticEncoder
from patchdm.sampling.denoise import Denoiser
from patchdm.sampling.solve import generators, solve
from patchdm.training.checkpoint import Checkpoints
from patchdm.training.image import ImageTraining, window_draw
from patchdm.training.loop import Hooks, fit, make_accelerator
from patchdm.training.plan import Plan
from stages._common import (
    FEATURES,
    PATCHDM,
    PATCHDM_CURVES,
    PATCHES,
    is_main,
    publish,
    run_stage,
    state_dir,
    writing,
)
from stages._training import Watch, join, launched, start_worker, train_together, watched

SHEET_IMAGES = 8
SHEET_STEPS = 20
WORTH_A_START = 2**26
"""Numbers in the first feature maps of a training, above which a process is worth its start: half a
minute of the demo."""


def train_patchdm(params: Params) -> None:
    """Write data/models/patchdm/ and reports/curves/patchdm/."""
    if not launched() and (processes := processes_of(params)) > 1:
        train_together("stages.train_patchdm", processes)
        return
    store = PatchStore(PATCHES)
    check_counts(params, train=len(store.rows("train")), test=len(store.rows("test")))
    with state_dir("train_patchdm", params, [PATCHES / "index.parquet", FEATURES]) as state:
        average = _train(params, store, state)
        if is_main():
            _save(average, PATCHDM)
            publish(PATCHDM_CURVES, {".": state / "curves", "sheets": state / "sheets"})


def processes_of(params: Params) -> int:
    """Return how many processes train: none starts for a training that ends before it could."""
    config, model = params.train, params.model
    if params.machine.processes or torch.accelerator.is_available():
        return params.machine.processes or 1
    window = (2 * model.patch_size // model.pixel_fold) ** 2
    work = config.images_seen * window * model.channels[0]
    return config.cpu_shares(params.base.threads) if work > WORTH_A_START else 1


def _train(params: Params, store: PatchStore, state: Path) -> nn.Module:
    config = params.train
    processes = join()
    shares = processes
    if not torch.accelerator.is_available():
        most = config.cpu_shares(params.base.threads)
        shares = most if most % processes == 0 else processes
        # A process has the threads that its shares would have in processes of their own.
        torch.set_num_threads(max(1, torch.get_num_threads() * processes // shares))
    plan = _plan(params, shares)
    accelerator = make_accelerator(plan, config.mixed_precision)
    module = _module(params, store, len(store.rows("train")))
    draw = window_draw(
        store,
        config,
        patch_size=params.model.patch_size,
        num_timesteps=params.diffusion.num_train_timesteps,
        whole_images=params.model.code == "encoder",
        seed=params.base.seed,
    )
    with watched(
        "train_patchdm", state, config.images_seen, "images", compiled=config.compile
    ) as watch:
        return fit(
            module,
            _optimizer(module, params),
            draw,
            plan,
            accelerator=accelerator,
            checkpoints=Checkpoints(state, warn),
            hooks=Hooks(
                report=watch.report,
                progress=watch.progress,
                stop_requested=watch.stop_requested,
                every=[(config.sheet_every, _sheet_writer(store, state / "sheets", watch))],
                start_worker=start_worker,
            ),
            workers=params.machine.loaders,
            compile_module=config.compile,
        )


def _module(params: Params, store: PatchStore, num_images: int) -> ImageTraining:
    torch.manual_seed(params.base.seed)  # initial weights
    unet = build_unet(params.model, (store.height, store.width), params.train)
    code = _code(params, num_images)
    scheduler = image_scheduler(params.diffusion)
    module = ImageTraining(unet, code, scheduler, min_snr_gamma=params.train.min_snr_gamma)
    if params.train.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    if params.train.channels_last:
        module.to(memory_format=torch.channels_last)
    return module


def _code(params: Params, num_images: int) -> CodeTable | SemanticEncoder | None:
    if params.model.code != "table":
        return build_code(params.model, num_images)
    _, features, metadata = read_vectors(FEATURES)
    if len(features) != num_images:
        raise PatchDMError(
            f"{FEATURES}: found {len(features)} images, expected the {num_images} "
            f"training images of {PATCHES}"
        )
    return CodeTable.from_features(features, params.model.code_dim, metadata["backbone"])


def _optimizer(module: ImageTraining, params: Params) -> torch.optim.Optimizer:
    groups = [{"params": list(module.unet.parameters()), "lr": params.train.learning_rate}]
    if module.code is not None:
        rate = params.train.code_learning_rate
        groups.append({"params": list(module.code.parameters()), "lr": rate})
    return torch.optim.Adam(groups, fused=True)


def _plan(params: Params, shares: int) -> Plan:
    config = params.train
    return Plan(
        seed=params.base.seed,
        items_seen=config.images_seen,
        batch_size=config.batch_size,
        micro_batch_size=config.micro_batch_size or max(1, config.batch_size // shares),
        warmup_items=config.warmup_images,
        lr_decay=config.lr_decay,
        ema_profile=config.ema_profile,
        ema_decay=config.ema_decay,
        ema_std=config.ema_std,
        grad_clip=config.grad_clip,
        log_every=config.log_every,
        checkpoint_every=config.checkpoint_every,
    )


def _sheet_writer(
    store: PatchStore, folder: Path, watch: Watch
) -> Callable[[int, nn.Module], None]:
    """Return the action that samples a few training codes from equal noise at every call."""
    folder.mkdir(exist_ok=True)
    images = store.rows("train")
    chosen = images[np.linspace(0, len(images) - 1, SHEET_IMAGES).astype(int)]

    @torch.no_grad()
    def write(seen: int, average: nn.Module) -> None:
        device = next(average.parameters()).device
        cond = None
        if average.code is not None:
            table = isinstance(average.code, CodeTable)
            inputs = torch.from_numpy(chosen) if table else to_tensor(store.images(chosen))
            cond = average.code(inputs.to(device))
        size = (average.unet.config.in_channels, store.height, store.width)
        x_T = torch.stack([torch.randn(size, generator=g) for g in generators(range(SHEET_IMAGES))])
        grid = PatchGrid.of(store.height, store.width, average.unet.config.patch_size)
        denoiser = Denoiser(average.unet, grid, cond)
        samples = solve(denoiser, average.scheduler, x_T.to(device), num_steps=SHEET_STEPS)
        sheet = contact_sheet(to_uint8(samples), columns=4)
        save_png(folder / f"{seen:09d}.png", sheet)
        watch.picture(seen, sheet)

    return write


def _save(average: nn.Module, folder: Path) -> None:
    with writing(folder) as fresh:
        average.unet.save_pretrained(fresh / "unet")
        average.scheduler.save_pretrained(fresh / "scheduler")
        if average.code is not None:
            kind = "code_table" if isinstance(average.code, CodeTable) else "encoder"
            average.code.save_pretrained(fresh / kind)


if __name__ == "__main__":
    run_stage(train_patchdm)
