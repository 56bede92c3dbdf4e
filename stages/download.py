"""Bring in the photographs: data.source -> data/raw/."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from patchdm.config import Params
from patchdm.data.sources import SOURCES, fetch
from patchdm.files import replacing
from stages._common import RAW, progress, run_stage, state_dir


def download(params: Params) -> None:
    """Write every photograph of the source, checked, and manifest.parquet to data/raw/."""
    source = SOURCES[params.data.source](Path(params.data.location))
    with (
        state_dir("download", [], []),  # its lock: one writer at a time
        source as items,
        progress("download", len(items), "images") as show,
        replacing(RAW) as raw,
    ):
        photographs = []
        for item in items:
            photographs.append(fetch(item, raw))
            show(len(photographs))
        pd.DataFrame(photographs).to_parquet(raw / "manifest.parquet", index=False)


if __name__ == "__main__":
    run_stage(download)
