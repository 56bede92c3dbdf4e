"""Stage train_patchdm: train the U-Net and the global code, write their EMA weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from patchdm.config import Params, check_counts
from patchdm.console import warn
from patchdm.devices import device_for, device_memory, threads
from patchdm.formats.patch_store import INDEX, PatchStore
from patchdm.training.checkpoint import Checkpoints
from patchdm.training.image import (
    ImageTraining,
    image_optimizer,
    image_training,
    save_models,
    window_draw,
)
from patchdm.training.loop import fit, make_accelerator
from patchdm.training.plan import plan_of
from patchdm.training.sheets import sheet_writer
from stages import _common as paths
from stages._common import RUN, Run, is_main, publish, run_stage, state_dir
from stages._outputs import writing
from stages._processes import join, launched, processes_of, train_together
from stages._training import watched


def train_patchdm(
    params: Params, run: Run = RUN, command: Sequence[str] = ("stages.train_patchdm",)
) -> None:
    """Write data/models/patchdm/ and reports/curves/patchdm/.

    `command`, a module and its arguments, calls this again in each of several processes.
    """
    store = PatchStore(run / paths.PATCHES)
    images = len(store.rows("train"))
    check_counts(params, train=images, test=len(store.rows("test")))
    if not launched():
        if (memory := device_memory(params.machine.device_memory)) is not None:
            from patchdm.peaks import check_memory  # noqa: PLC0415 - slow, and rarely needed on CPUs

            check_memory(params, images, memory)
        if (processes := processes_of(params)) > 1:
            train_together(command, processes)
            return
    features = run / paths.FEATURES
    with state_dir("train_patchdm", params, [store.folder / INDEX, features], run) as state:
        average = _train(params, store, features, state)
        if is_main():
            with writing(run / paths.PATCHDM) as fresh:
                save_models(average, fresh)
            curves = {".": state / "curves", "sheets": state / "sheets"}
            publish(run / paths.PATCHDM_CURVES, curves)


def _train(params: Params, store: PatchStore, features: Path, state: Path) -> ImageTraining:
    config, shares = params.train, (processes := join())
    device_for(deterministic=params.machine.deterministic, training=True)
    if not torch.accelerator.is_available():
        most = config.cpu_shares(params.base.threads)
        shares = most if most % processes == 0 else processes
    plan = plan_of(
        config,
        seed=params.base.seed,
        items_seen=config.images_seen,
        micro_batch_size=config.micro_batch_size or max(1, config.batch_size // shares),
        warmup_items=config.warmup_images,
    )
    accelerator = make_accelerator(plan, config.mixed_precision)
    torch.manual_seed(params.base.seed)  # initial weights
    module = image_training(params.model, config, params.diffusion, store, features)
    draw = window_draw(params.model, config, params.diffusion, store, seed=params.base.seed)
    # A process has the threads that its shares would have in processes of their own.
    own = max(1, torch.get_num_threads() * processes // shares)
    watching = watched(
        "train_patchdm", state, config.images_seen, "images", compiled=config.compile
    )
    with threads(own), watching as (hooks, picture):
        hooks.every.append((config.sheet_every, sheet_writer(store, state / "sheets", picture)))
        average = fit(
            module,
            image_optimizer(module, config),
            draw,
            plan,
            accelerator=accelerator,
            checkpoints=Checkpoints(state, warn),
            hooks=hooks,
            workers=params.machine.loaders,
            compile_module=config.compile,
        )
    accelerator.end_training()  # the processes part
    return average


if __name__ == "__main__":
    run_stage(train_patchdm)
