"""Measure the real images once: data/patches/ -> data/reference/.

All training images, flips included, are what every evaluation compares with. Two reference points
are compared with them here, since no sample changes them: the held-out test images (what real
images of that number reach) and the training images blurred 8 times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from patchdm.config import Params
from patchdm.console import progress
from patchdm.devices import default_device
from patchdm.errors import PatchDMError
from patchdm.formats.patch_store import PatchStore
from patchdm.metrics.compare import MEASURES, compare, seams
from patchdm.metrics.extractors import Extractor, load_extractor
from patchdm.metrics.manifolds import radii
from patchdm.metrics.neighbours import nearest
from patchdm.metrics.reference import Reference, describe, write_reference
from patchdm.metrics.seams import blur8
from patchdm.metrics.statistics import Statistics, collect
from stages._common import PATCHES, REFERENCE, locked, run_stage, writing

Change = Callable[[np.ndarray], np.ndarray]


def reference(params: Params) -> None:
    """Write data/reference/."""
    config = params.evaluate
    store = PatchStore(PATCHES)
    for split, least in (("train", config.nearest_k + 1), ("test", 2)):
        if len(store.rows(split)) < least:
            raise PatchDMError(
                f"{PATCHES}: found {len(store.rows(split))} {split} images, expected {least} "
                "or more"
            )
    extractor = load_extractor(
        config.extractor,
        Path(config.weights) if config.weights else None,
        default_device(),
    )
    images = 2 * len(store.rows("train")) + len(store.rows("test"))
    with locked("reference"), progress("reference", images, "images") as show:
        measured = _measure(params, store, extractor, show)
        about = describe(store, extractor, config, params.model.patch_size)
        about |= {"resizer": extractor.resizer, "seed": params.base.seed}
        with writing(REFERENCE) as fresh:
            write_reference(fresh, measured, about)


def _measure(
    params: Params, store: PatchStore, extractor: Extractor, show: Callable[[int], None]
) -> Reference:
    config, patch_size = params.evaluate, params.model.patch_size
    train, held_out = store.rows("train"), store.rows("test")

    def statistics(rows: np.ndarray, before: int, change: Change | None = None) -> Statistics:
        return collect(
            _batches(store, rows, config.batch_size, change, lambda done: show(before + done)),
            len(rows),
            extractor,
            crop_size=config.crop_size,
            crops_per_image=config.crops_per_image,
            seed=params.base.seed,
        )

    real, test = statistics(train, 0), statistics(held_out, len(train))
    real_radii = radii(real.features, config.nearest_k)

    def row(images: Statistics) -> dict[str, float]:
        return compare(
            images,
            real,
            real_radii=real_radii,
            nearest_k=config.nearest_k,
            kid_subset_size=config.kid_subset_size,
            seed=params.base.seed,
            patch_size=patch_size,
        )

    sets = {
        "train": {"n": real.steps.count, **seams(real, patch_size)},
        "blurred": row(statistics(train, len(train) + len(held_out), blur8)),
        "test": row(test),
    }
    return Reference(
        real=real,
        radii=real_radii,
        held_out_features=nearest(test.features, real.features).distances,
        held_out_pixels=nearest(test.thumbs, real.thumbs).distances,
        sets=pd.DataFrame.from_dict(sets, orient="index", columns=["n", *MEASURES]),
    )


def _batches(
    store: PatchStore,
    rows: np.ndarray,
    size: int,
    change: Change | None,
    advance_to: Callable[[int], None],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield rows and their images; every batch that comes back for more counts as done."""
    for start in range(0, len(rows), size):
        keys = rows[start : start + size]
        images = store.images(keys)
        yield keys, change(images) if change else images
        advance_to(start + len(keys))


if __name__ == "__main__":
    run_stage(reference)
