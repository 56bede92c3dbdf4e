"""A training of two processes with sharded weights, run by torchrun: see test_sharded.py.

accelerate starts FSDP on accelerators only; on a CPU its state is set by hand, and all that
follows (sharding, clipping, gradients, our checkpoints and average) is what a GPU would do.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

from patchdm.diffusion.schedules import image_scheduler
from patchdm.errors import PatchDMError
from patchdm.models.build import build_code, build_unet
from patchdm.training import loop
from patchdm.training.batches import Batch
from patchdm.training.draws import generator
from patchdm.training.image import ImageTraining
from tests.networks import awake
from tests.stages.tiny import tiny_params
from tests.training import toy


def toy_training(folder: Path) -> toy.Training:
    """Twenty steps of the toy, two micro-batches each."""
    return toy.Training(folder, plan=toy.toy_plan(micro_batch_size=2))


def network_training(folder: Path) -> toy.Training:
    """The same of a small network and a code table, on random windows."""
    params = tiny_params()
    side = 2 * params.model.patch_size
    torch.manual_seed(0)
    unet, code = build_unet(params.model), build_code(params.model, 30)
    module = awake(ImageTraining(unet, code, image_scheduler(params.diffusion)))

    def draw(items: range) -> Batch:
        source, count = generator(0, items.start), len(items)
        return {
            "pixels": torch.randint(
                256, (count, side, side, 3), dtype=torch.uint8, generator=source
            ),
            "inside": torch.ones(count, 1, side, side),
            "corner": torch.zeros(count, 2),
            "offset": torch.zeros(count, 2, dtype=torch.long),
            "image": torch.tensor(items) % 30,
            "whole": None,
            "keep_code": torch.ones(count, 1),
            "t": torch.randint(1000, (count,), generator=source),
            "noise": torch.randn(count, 3, side, side, generator=source),
        }

    plan = toy.toy_plan(micro_batch_size=2)
    return toy.Training(folder, plan=plan, draw=draw, module=module)


TRAININGS = {"toy": toy_training, "network": network_training}


def main(name: str, folder: Path, stop_after: int) -> None:
    """Train from wherever the folder's checkpoints are, and write `weights.pt` there."""
    torch.set_num_threads(1)
    make_accelerator = loop.make_accelerator

    def sharding(plan: loop.Plan, mixed_precision: str) -> loop.Accelerator:
        accelerator = make_accelerator(plan, mixed_precision)
        accelerator.state.distributed_type = DistributedType.FSDP
        plugin = FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="no_wrap")
        accelerator.state.fsdp_plugin = plugin
        return accelerator

    toy.make_accelerator = sharding
    training = TRAININGS[name](folder)
    training.stop_after = stop_after or None
    try:
        average = training.run()
    except PatchDMError:
        return
    weights = next(training.module.parameters())
    assert isinstance(weights, torch.distributed.tensor.DTensor), "nothing was sharded"
    if loop.Accelerator().is_main_process:
        averaged = {name: value for name, value in average.items() if not name.startswith("raw.")}
        torch.save(averaged, folder / "weights.pt")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
