"""Sampled images on disk: shards of PNG files, each a folder or a WebDataset tar, and a manifest.

    000000/000123.png            or  000000.tar: members 000123.png and 000123.json
    manifest.parquet             one row per image: seed, shard, file, sha256 (of the PNG)

A file is named by its seed, a shard by its first seed, in six digits or more.
"""

from __future__ import annotations

import io
import itertools
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, cast

import pandas as pd
import pyarrow as pa

from patchdm.errors import PatchDMError
from patchdm.formats.images import Pixels
from patchdm.formats.images import read_image as decode

MANIFEST = "manifest.parquet"
COLUMNS = ["seed", "shard", "file", "sha256"]


def png_name(seed: int) -> str:
    """Return the file name of a seed's image."""
    return f"{seed:06d}.png"


def read_manifest(folder: Path) -> pd.DataFrame:
    """Return seed, shard, file and sha256 of every image, by seed.

    Raises:
        PatchDMError: it is missing (sampling is not finished), no such table, or empty.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise PatchDMError(f"{path}: not found, the samples are missing or not finished")
    try:
        manifest = pd.read_parquet(path, columns=COLUMNS)
    except (OSError, ValueError, pa.ArrowException):
        raise PatchDMError(f"{path}: not a table of {', '.join(COLUMNS)}") from None
    if manifest.empty:
        raise PatchDMError(f"{path}: found no samples")
    return manifest


def read_images(folder: Path, seeds: Sequence[int] | None = None) -> Iterator[tuple[int, Pixels]]:
    """Yield (seed, uint8 (H, W, 3)) of the given seeds in their order, or of all ascending.

    Raises:
        PatchDMError: an image is not in the manifest, missing or damaged. Hashes are not checked.
    """
    manifest = read_manifest(folder).set_index("seed")
    if seeds is not None:
        unknown = [seed for seed in seeds if seed not in manifest.index]
        if unknown:
            raise PatchDMError(f"{folder / MANIFEST}: found no seed {unknown[0]}")
        manifest = manifest.loc[list(seeds)]
    rows = zip(manifest.index.tolist(), manifest["shard"], manifest["file"], strict=True)
    for shard, group in itertools.groupby(rows, key=lambda row: row[1]):
        numbers, _, names = zip(*group, strict=True)
        if shard.endswith(".tar"):
            images = _from_tar(folder / shard, names)
        else:
            images = (decode(folder / shard / name) for name in names)
        yield from zip(numbers, images, strict=True)


def read_image(folder: Path, seed: int) -> Pixels:
    """Return the image of one seed; for several, `read_images` is faster. Same errors."""
    ((_, image),) = read_images(folder, [seed])
    return image


def _from_tar(shard: Path, names: Sequence[str]) -> Iterator[Pixels]:
    try:
        with tarfile.open(shard, "r:") as tar:
            for name in names:
                with cast(IO[bytes], tar.extractfile(name)) as file:
                    yield decode(io.BytesIO(file.read()), name=f"{shard}/{name}")
    except FileNotFoundError:
        raise PatchDMError(f"{shard}: not found") from None
    except KeyError as error:
        raise PatchDMError(f"{shard}: found no {error.args[0]}") from None
    except (OSError, tarfile.TarError) as error:
        raise PatchDMError(f"{shard}: damaged tar file: {error}") from None
