"""What is computed once of the real images and serves every evaluation: a folder of its own.

reference.json      what the statistics are of
statistics.npz      the arrays of `Statistics`, radii, and nearest distances of held-out images
sets.csv            metrics of the training, blurred and held-out images
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from patchdm.errors import PatchDMError, one_line
from patchdm.formats.patch_store import PatchStore
from patchdm.metrics.blur import blur8
from patchdm.metrics.compare import MEASURES, by_itself, compare, unseen_kid
from patchdm.metrics.images import Batches, batched, counted, photographs_of
from patchdm.metrics.judge import Judge
from patchdm.metrics.manifolds import radii
from patchdm.metrics.neighbours import nearest
from patchdm.metrics.statistics import Statistics, collect

SETS = ("train", "blurred", "test")
_FILES = ("reference.json", "statistics.npz", "sets.csv")
_OWN_ARRAYS = ("radii", "unseen", "held_out_features", "held_out_pixels")
_REMEDY = "run the stage reference (`dvc repro`)"


@dataclass(frozen=True)
class Reference:
    """Statistics of the real images.

    The distances are those of each held-out image to the nearest kept training image, (t,) float64.
    """

    real: Statistics  # of the training images, flips included, in the order of their rows
    radii: np.ndarray  # of the kept features, (k,) float32
    unseen: np.ndarray  # features of the kept held-out images, (t, dim) float32
    held_out_features: np.ndarray  # distances by features
    held_out_pixels: np.ndarray  # distances by thumbnails
    sets: pd.DataFrame  # `n` and the metrics of each of `SETS`, as far as they say something


def describe(store: PatchStore, judge: Judge) -> dict[str, str | int]:
    """Return what statistics depend on; only equal ones are compared with each other."""
    index = store.columns("split", "sha256")
    lines = "".join(f"{split} {pixels}\n" for split, pixels in index.itertuples(index=False))
    return {
        "data_hash": hashlib.sha256(lines.encode()).hexdigest(),
        "extractor": judge.extractor.name,
        "extractor_weights_hash": judge.extractor.weights_hash,
        "crop_size": judge.config.crop_size,
        "crops_per_image": judge.config.crops_per_image,
        "nearest_k": judge.config.nearest_k,
        "patch_size": judge.patch_size,
    }


def measure_reference(store: PatchStore, judge: Judge, show: Callable[[int], None]) -> Reference:
    """Measure the real images; `show(n)` says that n are read, the training images twice.

    Raises:
        PatchDMError: there are too few images, or features that are no finite numbers.
    """
    config, train, test = judge.config, store.rows("train"), store.rows("test")
    for split, rows, least in (("train", train, config.nearest_k + 1), ("test", test, 2)):
        if len(rows) < least:
            raise PatchDMError(
                f"{store.folder}: found {len(rows)} {split} images, expected {least} or more"
            )

    def batches(rows: np.ndarray, before: int) -> Batches:
        return batched(counted(photographs_of(store, rows), show, before), config.batch_size)

    real = collect(batches(train, 0), len(train), judge)
    held_out = collect(batches(test, len(train)), len(test), judge)
    again = batches(train, len(train) + len(test))
    blurred = collect(((keys, blur8(images)) for keys, images in again), len(train), judge)
    real_radii = radii(real.features, config.nearest_k)
    sets = {
        "train": {
            "n": real.steps.count,
            **unseen_kid(real, held_out.features, judge),
            **by_itself(real, judge.patch_size),
        },
        "blurred": {
            **compare(blurred, real, real_radii, judge),
            **unseen_kid(blurred, held_out.features, judge),
        },
        "test": compare(held_out, real, real_radii, judge),
    }
    return Reference(
        real=real,
        radii=real_radii,
        unseen=held_out.features,
        held_out_features=nearest(held_out.features, real.features).distances,
        held_out_pixels=nearest(held_out.thumbs, real.thumbs).distances,
        sets=pd.DataFrame.from_dict(sets, orient="index", columns=["n", *MEASURES]),
    )


def write_reference(folder: Path, reference: Reference, about: Mapping[str, Any]) -> None:
    """Write a reference into a new folder; reference.json has what it is `about`."""
    folder.mkdir()
    description, arrays, sets = (folder / name for name in _FILES)
    description.write_text(json.dumps(about, indent=2) + "\n")
    own = {name: getattr(reference, name) for name in _OWN_ARRAYS}
    np.savez(arrays, allow_pickle=False, **own, **reference.real.arrays())
    reference.sets.to_csv(sets, index_label="set")


def read_reference(folder: Path, expected: Mapping[str, str | int]) -> Reference:
    """Read a reference, if it is of the data and settings that `describe` expects.

    Raises:
        PatchDMError: it is missing, damaged, or of other data or settings.
    """
    description, arrays, sets = (folder / name for name in _FILES)
    try:
        about = json.loads(description.read_text())
        for key, value in expected.items():
            if about[key] != value:
                raise PatchDMError(
                    f"{description}: found statistics with {key} {about[key]!r}, expected "
                    f"{value!r}, {_REMEDY}"
                )
        with np.load(arrays, allow_pickle=False) as file:
            loaded = {name: file[name] for name in file.files}
        return Reference(
            real=Statistics.from_arrays(loaded),
            **{name: loaded[name] for name in _OWN_ARRAYS},
            sets=pd.read_csv(sets, index_col="set").loc[list(SETS), ["n", *MEASURES]],
        )
    except FileNotFoundError as error:
        raise PatchDMError(f"{error.filename}: not found, {_REMEDY}") from None
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise PatchDMError(f"{folder}: damaged statistics ({one_line(error)}), {_REMEDY}") from None
