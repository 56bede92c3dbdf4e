"""What the benchmarks measure with: peaks, work, turns, and equal samples on both paths."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from benchmarks import sampling
from benchmarks._common import gflop, interleaved, speedup
from benchmarks._trained import Setting, Trained
from benchmarks.memory import PeakMemory
from stages._common import PARAMS, PATCHES
from tests.stages.models import small_params, write_models, write_params
from tests.stages.tiny import write_tiny_store


def test_peak_memory_is_seen_after_it_was_given_back() -> None:
    with PeakMemory() as peak:
        blocks = [torch.ones(2**24) for _ in range(4)]  # 64 MiB each: malloc has none in store
        del blocks
    assert peak.mib == pytest.approx(256, rel=0.1)


def test_the_work_of_a_convolution_is_counted() -> None:
    conv, maps = nn.Conv2d(8, 16, 3, padding=1), torch.ones(2, 8, 4, 4)
    assert gflop(lambda: conv(maps)) == pytest.approx(2 * (2 * 16 * 4 * 4) * (8 * 9) / 1e9)


def test_calls_take_turns() -> None:
    order: list[str] = []
    turns = interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3)
    assert order == ["a", "b"] * 3
    assert {name: len(seconds) for name, seconds in turns.items()} == {"a": 3, "b": 3}


def test_speedup_is_the_median_over_turns() -> None:
    assert speedup([2.0, 30.0, 3.0], [1.0, 10.0, 1.0]) == 3.0


def test_samplers_give_the_same_images(tmp_path: Path) -> None:
    case = sampling.Case("tiny", "smoke", 16, 32, 2, 3)
    sampling.write_model(case, tmp_path)
    images = [make(case, tmp_path)(case.steps) for make in sampling.SAMPLERS.values()]
    assert_close(images[1], images[0], atol=1e-4, rtol=1e-4)
    assert images[0].std() > 0.1
    assert 0 < (images[2] - images[0]).abs().mean() < 0.05, "bf16"


def test_settings_are_compared_on_the_same_seeds(tmp_dir: Path, landscapes: Path) -> None:
    params = small_params(sample={"batch_size": 2}, evaluate={"kid_subset_size": 2})
    write_tiny_store(tmp_dir / PATCHES, landscapes)
    write_params(tmp_dir / PARAMS, params)
    write_models(params)
    settings = [
        Setting("ddim", 2, "shifted", straightforward=True),
        Setting("ddim", 2, "shifted"),
        Setting("unipc", 2, "blend"),
    ]
    baseline, ours, other = Trained(Path()).compare(settings, 3)
    for measure in ("FID-EffNetLite0", "KID-EffNetLite0", "Seam", "Seam-padded", "Seam-worst"):
        assert ours[measure] == pytest.approx(baseline[measure], rel=1e-2)
    assert ours["FID-EffNetLite0"] != pytest.approx(other["FID-EffNetLite0"], rel=1e-2)
    assert [row["solver"] for row in (ours, other)] == ["ddim", "unipc"]
    assert other["s/image"] > 0
