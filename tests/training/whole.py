"""The training of the image model as its stage does it, without the stage's files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from patchdm.config import Params
from patchdm.formats.patch_store import PatchStore
from patchdm.formats.vectors import write_vectors
from patchdm.training.checkpoint import Checkpoints
from patchdm.training.image import ImageTraining, image_optimizer, image_training, window_draw
from patchdm.training.loop import Hooks, fit, make_accelerator
from patchdm.training.plan import plan_of


def train(
    params: Params,
    store: PatchStore,
    folder: Path,
    *,
    watch: Callable[[ImageTraining], object] = id,
    **hooks: Any,
) -> ImageTraining:
    """Train with features of no meaning; `watch` sees what is trained, `hooks` what it says."""
    config, count = params.train, len(store.rows("train"))
    features = folder / "features.parquet"
    starts = np.eye(count, params.model.code_dim)
    write_vectors(features, np.arange(count), starts, {"backbone": "", "weights_hash": ""})
    plan = plan_of(config, seed=0, items_seen=config.images_seen, warmup_items=0)
    module = image_training(params.model, config, params.diffusion, store, features)
    watch(module)
    silent = {"report": lambda *_: None, "progress": id, "stop_requested": lambda: False}
    return fit(
        module,
        image_optimizer(module, config),
        window_draw(params.model, config, params.diffusion, store, seed=0),
        plan,
        accelerator=make_accelerator(plan, config.mixed_precision),
        checkpoints=Checkpoints(folder, pytest.fail),
        hooks=Hooks(**silent | hooks),
    )
