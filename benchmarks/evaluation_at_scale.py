"""Memory and time of the evaluation at the paper's number of images.

The stages themselves, each in a process of its own, on a run of many small images: crops of the
bundled photographs, as many samples of a network that learnt next to nothing, and Inception of
torch-fidelity with random weights, whose features cost what the real ones do.

    taskset -c 0,1 python -m benchmarks.evaluation_at_scale --threads 2
    taskset -c 0,1 python -m benchmarks.evaluation_at_scale --threads 2 --features projected

Images pass Inception three times: 50,000 of them take hours on a CPU. With `projected` the features
are as many, by a random matrix from the means of 16 x 16 parts: what all but the network takes.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from unittest.mock import patch

import torch
from ruamel.yaml import YAML
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d
from torch_fidelity import feature_extractor_inceptionv3
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from benchmarks._common import show
from patchdm.config import load_params
from patchdm.metrics.extractors import InceptionADMExtractor

REPO = Path(__file__).parents[1]
TRAINING_PHOTOGRAPHS = 156
"""Of the bundled ones; the fifth that is held out is not among them."""
STAGES = (
    "check", "download", "extract_patches", "cache_features", "train_patchdm",
    "cache_embeddings", "train_latent", "sample", "reference", "evaluate",
)  # fmt: skip


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--features", choices=("inception", "projected"), default="inception")
    parser.add_argument("--stage", help=argparse.SUPPRESS)  # run it here, on projected features
    args = parser.parse_args()
    if args.stage:
        with patch.object(InceptionADMExtractor, "forward", projected):
            runpy.run_module(f"stages.{args.stage}", run_name="__main__")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(folder, args.images, args.threads)
        rows = [{"stage": stage, **measured(stage, folder, args.features)} for stage in STAGES]
        metrics = json.loads((folder / "reports/metrics.json").read_text())
    counts = f"{metrics['n_samples']:,} samples against {metrics['n_train']:,} images"
    show(f"{counts}, {args.features}, {args.threads} threads", rows)


def write_inputs(folder: Path, images: int, threads: int) -> None:
    """Write params.yaml and the weights of Inception."""
    weights = folder / "inception.pth"
    torch.manual_seed(0)
    torch.save(random_inception().state_dict(), weights)
    run = load_params(REPO / "presets/smoke.yaml")
    changes: dict[str, dict[str, object]] = {
        "base": {"threads": threads},
        "machine": {"workers": threads},
        "data": {
            "location": str(REPO / run.data.location),
            "views": -(-images // TRAINING_PHOTOGRAPHS),
            "test_fraction": 0.2,
        },
        "model": {"code": "none"},
        "sample": {"num_images": images, "num_steps": 1, "tiling": "shifted", "shard_size": 500},
        "evaluate": {
            "extractor": "inception-adm",
            "weights": str(weights),
            "kid_subset_size": min(1000, images),
        },
    }
    sections = run.model_dump(mode="json").items()
    values = {name: section | changes.get(name, {}) for name, section in sections}
    YAML().dump(values, folder / "params.yaml")


def random_inception() -> FeatureExtractorInceptionV3:
    """Return torch-fidelity's network with weights that torch's global generator draws."""
    with (
        patch.object(feature_extractor_inceptionv3, "load_state_dict_from_url"),
        patch.object(FeatureExtractorInceptionV3, "load_state_dict"),
    ):
        return FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], verbose=False)


def projected(extractor: InceptionADMExtractor, images: Tensor) -> tuple[Tensor, ...]:
    """Return features of Inception's sizes: (B, 3, H, W) uint8 -> (B, 2048), (B, 2023)."""
    parts = adaptive_avg_pool2d(images.float() / 255, 16).flatten(1)
    return tuple((parts @ _matrix(name)).relu() for name in extractor.features_list)


@cache
def _matrix(name: str) -> Tensor:
    return torch.randn(3 * 16 * 16, int(name), generator=torch.Generator().manual_seed(0))


def measured(stage: str, folder: Path, features: str) -> dict[str, float]:
    """Run a stage; return its peak GiB and its minutes."""
    start = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(REPO)}
    command = [sys.executable, "-m", f"stages.{stage}"]
    if features == "projected":
        command[2:] = ["benchmarks.evaluation_at_scale", "--stage", stage]
    process = subprocess.Popen(command, cwd=folder, env=environment)  # noqa: S603 - our stages
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{stage}: failed")
    minutes = (time.perf_counter() - start) / 60
    return {"peak GiB": round(usage.ru_maxrss / 2**20, 2), "minutes": round(minutes, 1)}


if __name__ == "__main__":
    main()
