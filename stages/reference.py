"""Measure the real images once: data/patches/ -> data/reference/.

All training images, flips included, are what every evaluation compares with. Two reference points
are compared with them here, since no sample changes them: the held-out test images (what real
images of that number reach) and the training images blurred 8 times.
"""

from __future__ import annotations

from patchdm.config import Params
from patchdm.console import progress
from patchdm.devices import device_for
from patchdm.formats.patch_store import PatchStore
from patchdm.metrics.judge import load_judge
from patchdm.metrics.reference import describe, measure_reference, write_reference
from stages._common import PATCHES, REFERENCE, locked, run_stage
from stages._outputs import writing


def reference(params: Params) -> None:
    """Write data/reference/."""
    store, seed = PatchStore(PATCHES), params.base.seed
    device = device_for(deterministic=params.machine.deterministic)
    judge = load_judge(params.evaluate, seed, params.model.patch_size, device)
    images = len(store) + len(store.rows("train"))  # which are read once more, blurred
    with locked("reference"), progress("reference", images, "images") as show:
        measured = measure_reference(store, judge, show)
        about = describe(store, judge) | {"resizer": judge.extractor.resizer, "seed": seed}
        with writing(REFERENCE) as fresh:
            write_reference(fresh, measured, about)


if __name__ == "__main__":
    run_stage(reference)
