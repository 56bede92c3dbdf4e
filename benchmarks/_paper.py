"""Networks of a preset's shape, random weights and random pictures: what `benchmarks.gpu` runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple
from typing import cast as typed

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from benchmarks._common import awake
from patchdm.config import Params, load_params
from patchdm.devices import cast, device_for
from patchdm.diffusion.schedules import image_scheduler
from patchdm.formats.patch_store import PatchStore
from patchdm.models.build import build_code, build_unet
from patchdm.pipeline import PatchDMPipeline
from patchdm.sampling.solve import generators
from patchdm.training.checkpoint import Checkpoints
from patchdm.training.image import ImageTraining, image_optimizer, window_draw
from patchdm.training.loop import Hooks, fit, make_accelerator
from patchdm.training.plan import plan_of

PRESETS = Path(__file__).parents[1] / "presets"
IMAGES = 64
Precision = Literal["no", "bf16"]


class Training(NamedTuple):
    """How windows are trained on."""

    micro: int
    compiled: bool = False
    precision: Precision = "bf16"
    checkpointing: bool = False


class Sampling(NamedTuple):
    """How images are sampled."""

    precision: Precision = "no"
    compiled: bool = False
    rows: int | None = None


def preset(name: str) -> Params:
    """Return the parameters of a preset."""
    return load_params(PRESETS / f"{name}.yaml")


def changed(params: Params, **sections: Mapping[str, Any]) -> Params:
    """Return parameters with other values in some sections."""
    update = {n: getattr(params, n).model_copy(update=dict(v)) for n, v in sections.items()}
    return params.model_copy(update=update)


def of_way(name: str, way: Training) -> Params:
    """Return a preset that trains in a way, 128 windows a step."""
    train = {
        "batch_size": 128,
        "micro_batch_size": way.micro,
        "mixed_precision": way.precision,
        "compile": way.compiled,
        "gradient_checkpointing": way.checkpointing,
    }
    return changed(preset(name), train=train)


def sampling_params(name: str, way: Sampling) -> Params:
    """Return a preset that samples in a way."""
    sample = {"mixed_precision": way.precision}
    return changed(preset(name), sample=sample, machine={"rows_per_chunk": way.rows})


def pictures(params: Params, folder: Path) -> PatchStore:
    """Return a store of random pictures."""
    size = (IMAGES, params.data.height, params.data.width, 3)
    pixels = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    np.save(folder / "images-00000.npy", pixels)
    index = pd.DataFrame({"image": range(IMAGES), "split": "train"})
    index.to_parquet(folder / "index.parquet", index=False)
    return PatchStore(folder)


def training_module(params: Params) -> ImageTraining:
    """Return network and code as the stage builds them, no weight zero."""
    torch.manual_seed(0)
    unet, code = build_unet(params.model), build_code(params.model, IMAGES)
    gamma = params.train.min_snr_gamma
    module = ImageTraining(unet, code, image_scheduler(params.diffusion), min_snr_gamma=gamma)
    awake(module)
    if params.train.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    return module.to(memory_format=torch.channels_last)


def trained(
    params: Params,
    folder: Path,
    *,
    steps: int,
    precision: str,
    on_step: Callable[[int], None] = lambda _: None,
    on_loss: Callable[[int, dict[str, float]], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> ImageTraining:
    """Train some steps as the stage does; return the average."""
    store, state = folder / "store", folder / "state"
    store.mkdir(exist_ok=True)
    batch = params.train.batch_size
    plan = plan_of(
        params.train,
        seed=0,
        items_seen=batch * steps,
        micro_batch_size=params.train.micro_batch_size,
        warmup_items=0,
        log_every=batch if on_loss else 10**9,
        checkpoint_every=10**12,
    )
    accelerator = make_accelerator(plan, precision)
    module = training_module(params)
    sections = params.model, params.train, params.diffusion
    return fit(
        module,
        image_optimizer(module, params.train),
        window_draw(*sections, pictures(params, store), seed=0),
        plan,
        accelerator=accelerator,
        checkpoints=Checkpoints(state, print),
        hooks=Hooks(
            report=on_loss or (lambda _seen, _metrics: None), progress=on_step, stop_requested=stop
        ),
        workers=params.machine.loaders,
        compile_module=params.train.compile,
    )


def pipeline(params: Params, way: Sampling) -> PatchDMPipeline:
    """Return a pipeline as the stage builds it, of random weights."""
    torch.manual_seed(0)
    unet = build_unet(params.model, (params.data.height, params.data.width))
    awake(unet)
    cast(unet, way.precision)
    unet.to(memory_format=torch.channels_last)  # as `from_stages` does
    pipe = PatchDMPipeline(unet.eval(), image_scheduler(params.diffusion))
    pipe.set_progress_bar_config(disable=True)
    if way.compiled:
        pipe.unet.compile()
    return pipe.to(device_for(deterministic=torch.are_deterministic_algorithms_enabled()))


def sampled(
    pipe: PatchDMPipeline, params: Params, batch: int, steps: int, *, rows: int | None = None
) -> Tensor:
    """Return images of the first seeds."""
    codes = torch.stack(
        [torch.randn(params.model.code_dim, generator=g) for g in generators(range(batch))]
    )
    size = params.data.height, params.data.width
    options: dict[str, Any] = {
        "output_type": "latent",
        "return_dict": False,
        "rows_per_chunk": rows,
        "cond": codes,
        "guidance_scale": params.sample.guidance_scale,
    }
    images = pipe(batch, *size, steps, generator=generators(range(batch)), **options)[0]
    return typed(Tensor, images)
