"""`python -m pipelines.merge OUT SHARD...`: check every image, then write the manifest of all.

OUT/SHARD/ are folders of `patchdm sample`. Each in which an image is missing or differs from its
hash is printed as `damaged: SHARD`, and no manifest is written then. One process checks all, since
each start of PyTorch takes seconds.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from patchdm.console import progress
from patchdm.errors import MISTAKES, mistake
from patchdm.files import replacing
from patchdm.formats.images import Pixels
from patchdm.formats.shards import MANIFEST, read_manifest

DAMAGED = "damaged: "


def merge(out: Path, names: Sequence[str]) -> list[str]:
    """Write the manifest of all shards, unless some are damaged; return those.

    Raises:
        PatchDMError: a folder holds something else.
    """
    with progress("verify", len(names), "shards") as advance_to:
        damaged = []
        for number, name in enumerate(names, start=1):
            if not _is_whole(out / name):
                damaged.append(name)
            advance_to(number)
    if not damaged:
        tables = [
            manifest.assign(shard=f"{name}/" + manifest["shard"])
            for name in names
            for manifest in [read_manifest(out / name)]
        ]
        with replacing(out / MANIFEST) as fresh:
            pd.concat(tables, ignore_index=True).to_parquet(fresh, index=False)
    return damaged


class _Missing(Exception):  # noqa: N818 - no error, but what is to be found out
    """An image would have to be drawn."""


def _is_whole(folder: Path) -> bool:
    """Let the code that writes shards check a finished folder."""
    # It imports torch, which takes seconds.
    from patchdm.sampling.write import SETTINGS, write_shards  # noqa: PLC0415

    try:
        settings = json.loads((folder / SETTINGS).read_bytes())
        first, count = settings["first_seed"], settings["num_images"]
        return write_shards(
            _draw_none,
            range(first, first + count),
            folder,
            shard_size=settings["shard_size"],
            batch_size=count,
            format=settings["format"],
            settings=settings,
            on_progress=lambda _done: None,
        )
    except _Missing:
        return False
    except (FileNotFoundError, KeyError, TypeError, ValueError):
        return False  # `patchdm sample` says what is wrong with its settings


def _draw_none(_batches: Iterable[Sequence[int]]) -> Iterator[Pixels]:
    raise _Missing


if __name__ == "__main__":
    try:
        for name in merge(Path(sys.argv[1]), sys.argv[2:]):
            print(DAMAGED + name)  # noqa: T201 - a command
    except MISTAKES as error:
        if (line := mistake(error)) is None:
            raise
        sys.exit(f"error: {line}")
