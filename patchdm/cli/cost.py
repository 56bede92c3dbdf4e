"""What the photographs of a run cost before training: bytes and hours.

Sizes as published: FFHQ's 1024 x 1024 PNGs in its README, LHQ's in ALIS's, LSUN's zips in its
README. That of Nature is an estimate: 21,443 JPEGs of 2560 x 1024 at a quarter of a byte a pixel.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from patchdm.backbones.efficientnet import EFFICIENTNET_LITE0
from patchdm.config import Data, Params
from patchdm.peaks import Peaks

PUBLISHED_BYTES = {
    "nature1024": 21_443 * 2560 * 1024 / 4,
    "lhq1024": 107e9,
    "ffhq1024": 89.1e9,
    "ffhq256": 89.1e9,
    "lsun-church256": 2.3e9,
    "lsun-bedroom256": 43e9,
}
"""Preset -> bytes of its photographs."""


def data_cost(
    name: str,
    data: Data,
    photographs: int,
    disk: float,
    *,
    workers: int,
    megabytes: float,
    photographs_a_second: float,
) -> pd.DataFrame:
    """Return bytes and hours of so many photographs as a table with columns quantity, value, unit.

    Args:
        name, data: of the preset; its section data.
        disk: bytes that all of the run takes.
        workers: processes that extract, `photographs_a_second` each.
        megabytes: transferred in a second, in 10^6 bytes.
    """
    rows = []
    total = PUBLISHED_BYTES.get(name) or _local_bytes(Path(data.location))
    if total:
        rows.append(("photographs to download", total / 1e9, "GB"))
        rows.append(("downloading them", total / (megabytes * 1e6) / 3600, "h"))
    seconds = photographs / (photographs_a_second * workers)
    rows.append((f"extraction, {workers} workers", seconds / 3600, "h"))
    rows.append(("disk, with DVC's cache", disk / 1e9, "GB"))
    return pd.DataFrame(rows, columns=["quantity", "value", "unit"])


def disk_bytes(name: str, params: Params, peaks: Peaks, store_bytes: int) -> float:
    """Return the bytes that a run writes; of its outputs DVC's cache has a second copy.

    Args:
        name: of the preset. Photographs count where they are downloaded.
        peaks: of the run; a training keeps two checkpoints and leaves one model.
        store_bytes: of the patch store.
    """
    sample, data = params.sample, params.data
    photographs = PUBLISHED_BYTES.get(name, 0) if "://" in data.location else 0
    samples = sample.num_images * data.width * data.height * 3
    return 2 * (photographs + store_bytes + samples + peaks.state) + 2 * peaks.state


def fetched(params: Params) -> list[str]:
    """Say, a line each, what a run takes from elsewhere."""
    data, needed = params.data, []
    if data.source == "folder" and not Path(data.location).is_dir():
        needed.append(f"{data.location}: not found, put the photographs there")
    elif "://" in data.location:
        needed.append(f"photographs: {data.location}")
    networks = [(params.features.backbone, params.features.weights)]
    networks += [(params.evaluate.extractor, params.evaluate.weights)]
    return needed + [
        f"weights: {name}, from its authors"
        for name, file in networks
        if file is None and not name.startswith(EFFICIENTNET_LITE0)  # which a package has
    ]


def _local_bytes(location: Path) -> int:
    """Return the bytes of a file, or of all below a folder; 0: it is elsewhere."""
    files = location.rglob("*") if location.is_dir() else [location]
    return sum(file.stat().st_size for file in files if file.is_file())
