"""Which copies of photographs are found, by the size of the training images; and how fast.

Each photograph of an archive stands next to one copy of it; found is the share of the copies in the
group of their original, joined are pairs of different photographs in one group.

    python -m benchmarks.lookalikes [photographs.zip]
"""

from __future__ import annotations

import argparse
import io
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from benchmarks._common import show
from patchdm.extract.duplicates import Thumbnails, alike, groups_of, thumbnail
from patchdm.formats.images import read_views

BUNDLED = Path("data/bundled/landscapes-free-768x384.zip")
SIZES = [(64, 32), (256, 256), (512, 256)]


def main() -> None:
    """Print a table of copies and one of times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", nargs="?", type=Path, default=BUNDLED)
    args = parser.parse_args()
    with zipfile.ZipFile(args.archive) as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")]
        files = [archive.read(name) for name in names]
    copies = [dict(_copies(Image.open(io.BytesIO(file)).convert("RGB"))) for file in files]
    originals = {size: np.stack([_thumbnail(file, size) for file in files]) for size in SIZES}
    rows, joined = [], 0
    for name in copies[0]:
        row: dict[str, object] = {"copy": name}
        for size in SIZES:
            changed = np.stack([_thumbnail(of[name], size) for of in copies])
            found, wrong = _found(originals[size], changed)
            row[f"found at {size[0]}x{size[1]}"] = f"{found:.1%}"
            joined = max(joined, wrong)
        rows.append(row)
    show(f"Copies of {len(files)} photographs; most photographs joined: {joined}", rows)
    show("Time", [_time(count) for count in (10_000, 100_000)])


def _copies(image: Image.Image) -> Iterator[tuple[str, bytes]]:
    width, height = image.size
    for quality in (30, 60, 95):
        yield f"JPEG of quality {quality}", _saved(image, quality)
    for scale in (25, 50, 150, 200):
        size = (width * scale // 100, height * scale // 100)
        yield f"resized to {scale} %", _saved(image.resize(size))
    for factor in (0.9, 1.1):
        yield f"brightness x {factor}", _saved(ImageEnhance.Brightness(image).enhance(factor))
    yield "grey", _saved(image.convert("L"))
    yield "mirrored", _saved(ImageOps.mirror(image))
    half = image.convert("L").resize((width // 2, height // 2))
    yield "mirrored, grey, 50 %, quality 50", _saved(ImageOps.mirror(half), 50)
    for percent in (2, 3, 5):
        x, y = width * percent / 100, height * percent / 100
        box = (round(x / 2), round(y / 2), round(width - x / 2), round(height - y / 2))
        yield f"cropped by {percent} %, around", _saved(image.crop(box))
        yield f"cropped by {percent} %, left", _saved(image.crop((round(x), 0, width, height)))
        corner = image.crop((round(x), round(y), width, height))
        yield f"cropped by {percent} %, left and top", _saved(corner)


def _saved(image: Image.Image, quality: int = 85) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _thumbnail(file: bytes, size: tuple[int, int]) -> Thumbnails:
    return thumbnail(read_views(io.BytesIO(file), *size)[0][0])


def _found(originals: Thumbnails, copies: Thumbnails) -> tuple[float, int]:
    """Return the share of copies found and the number of originals joined to another one."""
    count = len(originals)
    pairs = alike(np.concatenate([originals, copies]))
    group = groups_of(2 * count, pairs["like"].to_numpy(), pairs["place"].to_numpy())
    own = np.arange(count)
    return float((group[count:] == group[:count]).mean()), int((group[:count] != own).sum())


def _time(count: int) -> dict[str, object]:
    """Time thumbnails of smooth noise."""
    draws = np.random.default_rng(0)
    levels = draws.normal(size=(count, 8, 8)).cumsum(1).cumsum(2)
    levels = np.clip(levels / levels.std() * 8000 + 32000, 0, 65535).astype(np.uint16)
    start = time.process_time()
    pairs = alike(levels)
    seconds = time.process_time() - start
    return {"photographs": count, "seconds of CPU": round(seconds, 1), "pairs": len(pairs)}


if __name__ == "__main__":
    main()
