"""Measure the samples: data/samples/ -> reports/metrics.json, reports/tables/.

Every block of seeds is compared with the training images, as data/reference/ holds them, apart
from the other blocks. Held-out and blurred images stand next to it as data/reference/ measured
them. Seams are looked for at the borders of the shifted patches, which tile the image, and of the
padded ones. The nearest training image of each sample shows whether the model copies.
"""

from __future__ import annotations

import json

import numpy as np

from patchdm.config import Params
from patchdm.console import progress
from patchdm.devices import device_for
from patchdm.errors import PatchDMError
from patchdm.files import sha256
from patchdm.formats.patch_store import PatchStore
from patchdm.metrics.images import Samples
from patchdm.metrics.judge import load_judge
from patchdm.metrics.reference import describe, read_reference
from patchdm.metrics.samples import measure
from stages import _common as paths
from stages._common import RUN, Run, git_revision, locked, run_stage
from stages._declared import params_digest
from stages._outputs import writing

UNET_WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def evaluate(params: Params, run: Run = RUN) -> None:
    """Write metrics.json, and the tables metrics.csv, blocks.csv and nearest.csv."""
    weights, store = run / paths.PATCHDM / UNET_WEIGHTS, PatchStore(run / paths.PATCHES)
    if not weights.is_file():
        raise PatchDMError(f"{weights}: not found, run the stage train_patchdm (`dvc repro`)")
    first, count = params.sample.first_seed, params.sample.num_images
    samples = Samples(run / paths.SAMPLES, store)
    seeds = np.arange(first, first + count)
    if (found := np.isin(seeds, samples.seeds).sum()) < count:
        raise PatchDMError(
            f"{samples.folder}: found {found} of the {count} seeds from {first} on that "
            "sample.first_seed and sample.num_images ask for"
        )
    seed, device = params.base.seed, device_for(deterministic=params.machine.deterministic)
    judge = load_judge(params.evaluate, seed, params.model.patch_size, device)
    about = describe(store, judge)
    reference = read_reference(run / paths.REFERENCE, about)
    with locked("evaluate", run):
        with progress("evaluate", count, "images") as show:
            measured = measure(samples, seeds, judge, reference, show)
        metrics = measured.numbers() | {
            "seeds": {"first": first, "count": count},
            "kid_subset_size": params.evaluate.kid_subset_size,
            "unet_weights_hash": sha256(weights),
            "params_hash": params_digest("evaluate", params),
            "git_revision": git_revision(),
            **about,
            "resizer": judge.extractor.resizer,
        }
        with writing(run / paths.METRICS) as fresh:
            fresh.write_text(json.dumps(metrics, indent=2) + "\n")
        with writing(run / paths.TABLES) as fresh:
            measured.write(fresh, judge.extractor.label)


if __name__ == "__main__":
    run_stage(evaluate)
