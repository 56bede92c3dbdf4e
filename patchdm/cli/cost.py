"""What the photographs of a run cost before training: bytes and hours.

Sizes as published: FFHQ's 1024 x 1024 PNGs in its README, LHQ's in ALIS's, LSUN's zips in its
README. That of Nature is an estimate: 21,443 JPEGs of 2560 x 1024 at a quarter of a byte a pixel.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from patchdm.config import Data

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
    *,
    workers: int,
    megabytes: float,
    photographs_a_second: float,
) -> pd.DataFrame:
    """Return bytes and hours of so many photographs as a table with columns quantity, value, unit.

    Args:
        name, data: of the preset; its section data.
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
    return pd.DataFrame(rows, columns=["quantity", "value", "unit"])


def _local_bytes(location: Path) -> int:
    """Return the bytes of a file, or of all below a folder; 0: it is elsewhere."""
    files = location.rglob("*") if location.is_dir() else [location]
    return sum(file.stat().st_size for file in files if file.is_file())
