"""Sampling on GPUs, without any: who draws which seeds together, and where."""

from __future__ import annotations

import multiprocessing
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from patchdm.cli import sample as command
from patchdm.diffusion.schedules import paper_scheduler
from patchdm.formats.shards import read_images
from patchdm.pipeline import PatchDMPipeline
from patchdm.sampling.generate import generate
from stages import sample as stage
from tests.networks import small_unet
from tests.stages.models import small_params, write_models

SIZE = {"height": 16, "width": 16}


class OnGpu(PatchDMPipeline):
    """One that says that it is on a GPU; its images tell on which, and what was drawn together."""

    place = torch.device("cuda", 0)

    @property
    def device(self) -> torch.device:
        """Where it was last sent."""
        return self.place

    def to(self, device: Any, **_: Any) -> OnGpu:
        """Note the device, which does not exist."""
        self.place = torch.device(device)
        return self

    def __call__(self, count: int, *_: Any, generator: list[torch.Generator], **__: Any) -> Any:
        """Return images (n, 3, 16, 16): GPU, first and last seed of the batch, as grey levels."""
        assert torch.get_num_threads() == 1
        if multiprocessing.parent_process():
            time.sleep(0.3)  # so that no process does all
        seeds = [source.initial_seed() for source in generator]
        levels = torch.tensor([self.place.index, seeds[0], seeds[-1]]) / 127.5 - 1
        return SimpleNamespace(images=levels[None, :, None, None].expand(count, 3, 16, 16))


@pytest.fixture
def pipe() -> OnGpu:
    return OnGpu(small_unet(), paper_scheduler())


def drawn(pipe: OnGpu, out: Path, seeds: range = range(3, 22), **changes: Any) -> dict[int, list]:
    """Sample; return of each seed its GPU and the first and last seed that was drawn with it."""
    options: dict[str, Any] = {"shard_size": 10, "batch_size": 4, "format": "png", "key": {}}
    options |= {"num_inference_steps": 2, "on_progress": lambda _: None, **SIZE}
    assert generate(pipe, seeds, out, **options | changes)
    return {seed: image[0, 0].tolist() for seed, image in read_images(out)}


def test_gpus_share_the_batches(pipe: OnGpu, tmp_path: Path):
    found = drawn(pipe, tmp_path, gpus=3)
    assert pipe.device == torch.device("cuda", 0)
    assert {gpu for gpu, _, _ in found.values()} <= {0, 1, 2}
    assert len({gpu for gpu, _, _ in found.values()}) > 1
    alone = drawn(pipe, tmp_path / "alone")
    assert {gpu for gpu, _, _ in alone.values()} == {0}
    assert [image[1:] for image in found.values()] == [image[1:] for image in alone.values()]


@pytest.mark.parametrize(("seeds", "gpus"), [(range(3, 22), 1), (range(4), 3)], ids=str)
def test_one_gpu_or_batch_needs_no_process(
    pipe: OnGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seeds: range, gpus: int
):
    monkeypatch.delattr(sys.modules["patchdm.sampling.generate"], "shared")
    assert len(drawn(pipe, tmp_path, seeds, gpus=gpus)) == len(seeds)


def test_what_is_drawn_together_does_not_depend_on_what_is_there(pipe: OnGpu, tmp_path: Path):
    """So a GPU's rounding, which depends on it, is the same after a kill and after damage."""
    batches = {seed: [0, seed - seed % 4, seed - seed % 4 + 3] for seed in range(3, 22)}
    batches[3] = [0, 3, 3]  # what is outside the range is not drawn for it
    batches |= {20: [0, 20, 21], 21: [0, 20, 21]}
    assert drawn(pipe, tmp_path) == batches
    for seed in (5, 6, 13, 21):
        next(tmp_path.glob(f"*/{seed:06d}.png")).unlink()
    assert drawn(pipe, tmp_path) == batches
    assert drawn(pipe, tmp_path / "other", shard_size=7) == batches


@pytest.mark.usefixtures("tmp_dir")
def test_the_stage_samples_on_all_gpus(monkeypatch: pytest.MonkeyPatch):
    given: dict[str, Any] = {}

    def generated(*_: Any, **options: Any) -> None:
        given.update(options)
        raise KeyboardInterrupt

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 5)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # nor a real one
    monkeypatch.setattr(stage, "generate", generated)
    params = small_params()
    write_models(params)
    with pytest.raises(KeyboardInterrupt):
        stage.sample(params)
    assert given["gpus"] == 5


@pytest.mark.parametrize(("device", "gpus"), [(None, 5), ("cpu", 1)])
def test_the_command_samples_on_all_gpus_or_on_the_one_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str | None, gpus: int
):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 5)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # nor a real one
    monkeypatch.setattr(command, "generate", lambda *_, **options: options["gpus"])
    PatchDMPipeline(small_unet(sample_size=(16, 16)), paper_scheduler()).save_pretrained(tmp_path)
    out = tmp_path / "out"
    found = command.sample(tmp_path, range(2), out, lambda _: print, None, None, device=device)
    assert found == gpus
