"""Samples on disk as the stage sample leaves them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from patchdm.files import sha256
from patchdm.formats.images import save_png


def write_samples(folder: Path, first_seed: int, images: np.ndarray) -> None:
    """Write images (n, H, W, 3) uint8 as the samples of consecutive seeds, in one shard."""
    rows = []
    for seed, image in enumerate(images, first_seed):
        path = folder / sample_path(first_seed, seed)
        save_png(path, image)
        rows.append((seed, path.parent.name, path.name, sha256(path)))
    manifest = pd.DataFrame(rows, columns=["seed", "shard", "file", "sha256"])
    manifest.to_parquet(folder / "manifest.parquet", index=False)


def sample_path(first_seed: int, seed: int) -> Path:
    """Return where `write_samples` writes a seed's image, below its folder."""
    return Path(f"{first_seed:06d}", f"{seed:06d}.png")
