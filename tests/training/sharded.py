"""A training of two processes with sharded weights, run by torchrun: see test_sharded.py.

accelerate starts FSDP on accelerators only; on a CPU its state is set by hand, and all that
follows (sharding, clipping, gradients, our checkpoints and average) is what a GPU would do.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

from patchdm.errors import PatchDMError
from patchdm.training import loop
from tests.training import toy


def main(folder: Path, stop_after: int) -> None:
    """Train the toy from wherever its folder is, and write `weights.pt` there."""
    torch.set_num_threads(1)
    make_accelerator = loop.make_accelerator

    def sharding(plan: loop.Plan, mixed_precision: str) -> loop.Accelerator:
        accelerator = make_accelerator(plan, mixed_precision)
        accelerator.state.distributed_type = DistributedType.FSDP
        plugin = FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="no_wrap")
        accelerator.state.fsdp_plugin = plugin
        return accelerator

    toy.make_accelerator = sharding
    training = toy.Training(
        folder, plan=toy.toy_plan(micro_batch_size=2), stop_after=stop_after or None
    )
    try:
        average = training.run()
    except PatchDMError:
        return
    weights = training.module.layers[0].weight
    assert isinstance(weights, torch.distributed.tensor.DTensor), "nothing was sharded"
    if loop.Accelerator().is_main_process:
        averaged = {name: value for name, value in average.items() if not name.startswith("raw.")}
        torch.save(averaged, folder / "weights.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
