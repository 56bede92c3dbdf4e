"""A tiny patch store of real photographs, and parameters that fit it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from patchdm.config import Params, load_params
from patchdm.extract.splits import lay_out
from patchdm.files import sha256
from patchdm.formats.images import fit, read_image
from tests.conftest import REPO
from tests.stores import write_store

HEIGHT, WIDTH = 16, 32
SIDES = ("width", "height")


def tiny_params(**changes: dict[str, Any]) -> Params:
    """Return the smoke preset with some keys changed; large images are as large as the others."""
    values = load_params(REPO / "presets/smoke.yaml").model_dump()
    if "data" in changes:
        sizes = {f"large_{side}": size for side, size in changes["data"].items() if side in SIDES}
        changes["applications"] = sizes | changes.get("applications", {})
    return Params.model_validate(
        {name: section | changes.get(name, {}) for name, section in values.items()}
    )


def write_tiny_store(folder: Path, landscapes: Path) -> None:
    """Write a store of 18 training images and 3 held out."""
    files = sorted(landscapes.iterdir())
    manifest = pd.DataFrame({"image": [f.name for f in files], "sha256": map(sha256, files)})
    manifest = manifest.assign(licence="CC0-1.0", source="a collection")
    layout = lay_out(manifest, 0.2, views=1, flips=True)
    images = []
    for source, view in zip(layout["source"], layout["view"], strict=True):
        image = fit(read_image(landscapes / source), WIDTH, HEIGHT)
        images.append(image[:, ::-1] if view else image)
    folder.parent.mkdir()
    write_store(folder, layout, images)
