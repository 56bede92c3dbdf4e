"""Turn photographs into training images: data/raw/ -> data/patches/."""

from __future__ import annotations

import shutil

from patchdm.config import Params, check_counts
from patchdm.console import progress, warn
from patchdm.extract.extract import extract
from patchdm.extract.splits import lay_out
from patchdm.files import link_or_copy
from patchdm.formats.patch_store import PatchStore
from patchdm.formats.raw import MANIFEST, read_manifest
from stages._common import PATCHES, RAW, run_stage, state_dir
from stages._outputs import writing


def extract_patches(params: Params) -> None:
    """Write the patch store, images of one size in two splits, and the tables of findings."""
    data = params.data
    manifest = read_manifest(RAW)
    layout = lay_out(manifest, data.test_fraction, views=data.views, flips=data.flips)
    check_counts(params, **layout["split"].value_counts())
    # The manifest represents the photographs: their hashes are compared when they are read.
    with (
        state_dir("extract_patches", params, [RAW / MANIFEST]) as state,
        progress("extract_patches", len(layout), "images") as show,
    ):
        work = state / "progress"
        store, findings = extract(
            RAW,
            layout,
            work,
            width=data.width,
            height=data.height,
            views=data.views,
            view_scale=data.view_scale,
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
