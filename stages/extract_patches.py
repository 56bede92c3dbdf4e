"""Turn photographs into training images: data/raw/ -> data/patches/."""

from __future__ import annotations

from patchdm.config import Params
from patchdm.data.extract import extract
from patchdm.data.patch_store import write_store
from patchdm.data.raw import read_manifest
from patchdm.data.splits import plan_images
from patchdm.files import replacing
from stages._common import PATCHES, RAW, progress, run_stage, state_dir


def extract_patches(params: Params) -> None:
    """Write the patch store: images of one size, split by photograph."""
    data = params.data
    plan = plan_images(read_manifest(RAW), data.test_fraction, flips=data.flips)
    images = extract(RAW, plan, data.width, data.height)
    with (
        state_dir("extract_patches", [], []),  # its lock: one writer at a time
        progress("extract", len(plan), "images") as show,
        replacing(PATCHES) as folder,
    ):
        write_store(folder, plan, images, height=data.height, width=data.width, report=show)


if __name__ == "__main__":
    run_stage(extract_patches)
