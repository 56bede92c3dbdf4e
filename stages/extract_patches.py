"""Turn photographs into training images: data/raw/ -> data/patches/."""

from __future__ import annotations

import shutil

from patchdm.config import Params, check_counts
from patchdm.console import progress, warn
from patchdm.extract.extract import extract
from patchdm.extract.splits import plan_images
from patchdm.files import link_or_copy
from patchdm.formats.patch_store import PatchStore
from patchdm.formats.raw import MANIFEST, read_manifest
from stages._common import PATCHES, RAW, run_stage, state_dir, writing


def extract_patches(params: Params) -> None:
    """Write the patch store: images of one size, split by photograph; and what was found odd."""
    data = params.data
    plan = plan_images(read_manifest(RAW), data.test_fraction, flips=data.flips)
    check_counts(params, **plan["split"].value_counts())
    # The manifest stands for the photographs: it has their hashes, which are compared as they
    # are read.
    with (
        state_dir("extract_patches", params, [RAW / MANIFEST]) as state,
        progress("extract_patches", len(plan), "images") as show,
    ):
        work = state / "progress"
        store, findings = extract(
            RAW,
            plan,
            work,
            width=data.width,
            height=data.height,
            test_fraction=data.test_fraction,
            damaged_fraction=data.damaged_fraction,
            workers=params.machine.workers,
            report=show,
        )
        kept = PatchStore(store)
        check_counts(params, train=len(kept.rows("train")), test=len(kept.rows("test")))
        with writing(PATCHES) as folder:
            shutil.copytree(store, folder, copy_function=link_or_copy)
        shutil.rmtree(work)
    for name, found in findings.items():
        warn(f"{PATCHES / name}: {found}")


if __name__ == "__main__":
    run_stage(extract_patches)
