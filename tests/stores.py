"""Patch stores of given images, and photographs for some, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from patchdm.extract.store_writer import RECORD, ShardWriter, describe, write_index
from patchdm.files import sha256
from patchdm.formats.images import Pixels
from patchdm.formats.raw import MANIFEST, Photograph
from tests.photographs import write_folder


def write_store(folder: Path, layout: pd.DataFrame, images: Sequence[Pixels]) -> None:
    """Write a store into a new folder: one image per row of the layout."""
    folder.mkdir()
    height, width, _ = images[0].shape
    writer = ShardWriter(folder, height, width)
    records = np.zeros(len(images), RECORD)
    records["row"] = np.arange(len(images))
    records["kept"] = True
    for record, image in zip(records, map(np.ascontiguousarray, images), strict=True):
        writer.append(image[None])
        record["mean"], record["sha256"] = describe(image)
    writer.finish()
    write_index(folder, layout, records)


def write_raw(raw: Path, files: dict[str, bytes]) -> None:
    """Write data/raw: photographs and their manifest."""
    write_folder(raw, files)
    rows = [
        Photograph(name, f"https://example.org/{name}", "unknown", sha256(raw / name), len(content))
        for name, content in sorted(files.items())
    ]
    pd.DataFrame(rows).to_parquet(raw / MANIFEST, index=False)
