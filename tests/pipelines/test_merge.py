"""One manifest of all shards, and none of damaged ones."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from patchdm.choices import Format
from patchdm.formats.images import Pixels
from patchdm.formats.shards import MANIFEST, read_images, read_manifest
from patchdm.sampling.write import write_shards
from pipelines.merge import merge

NAMES = ["000004", "000010"]


def draw(batches: Iterable[Sequence[int]]) -> Iterator[Pixels]:
    for batch in batches:
        yield np.stack([np.full((4, 8, 3), seed, np.uint8) for seed in batch])


def sample(out: Path, name: str, kind: Format) -> None:
    """Write six images, as `patchdm sample` does."""
    seeds = range(int(name), int(name) + 6)
    settings = {
        "first_seed": seeds.start, "num_images": len(seeds), "shard_size": 4, "format": kind,
        "guidance_interval": [0, 1000],
    }  # fmt: skip
    assert write_shards(
        draw, seeds, out / name, shard_size=4, batch_size=2, format=kind, settings=settings,
        on_progress=lambda _done: None,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["png", "webdataset"])
def test_whole_shards_have_one_manifest_and_damaged_ones_are_named(tmp_path: Path, kind: Format):
    for name in NAMES:
        sample(tmp_path, name, kind)
    assert merge(tmp_path, NAMES) == []
    assert read_manifest(tmp_path)["seed"].tolist() == list(range(4, 16))
    assert {int(image[0, 0, 0]) for _, image in read_images(tmp_path)} == set(range(4, 16))

    (tmp_path / MANIFEST).unlink()
    damaged = max(path for path in (tmp_path / "000010").rglob("0*") if path.is_file())
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert merge(tmp_path, [*NAMES, "000016"]) == ["000010", "000016"]
    assert not (tmp_path / MANIFEST).exists()

    sample(tmp_path, "000010", kind)
    assert merge(tmp_path, NAMES) == []
    assert len(read_manifest(tmp_path)) == 12


def test_a_picture_of_somebody_else_is_no_image_of_ours(tmp_path: Path):
    sample(tmp_path, "000004", "png")
    other = io.BytesIO()
    Image.new("RGB", (8, 4)).save(other, "PNG")
    (tmp_path / "000004/000004/000004.png").write_bytes(other.getvalue())
    assert merge(tmp_path, ["000004"]) == ["000004"]
