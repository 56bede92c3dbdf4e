"""Speed of the data: extraction against decoding, windows of the patch store, its memory, draws.

Photographs: JPEGs, each a mosaic of bundled photographs, quality 90. Decoding: Pillow, from memory,
at full size. A worker: all that one does, from the file to the store's shards. Both in seconds of
this process's CPU, taking turns, so that other work on the machine counts little; `--workers`
processes are timed by the clock, their start included.
Windows: from a warm cache, one core, batches of 32, shuffled. Memory: what is resident after two
more epochs, compared with after the first two. Draws: whole items of a training, noise and all, by
seconds of CPU.

    taskset -c 2,3 python -m benchmarks.extraction
"""

from __future__ import annotations

import argparse
import io
import itertools
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from benchmarks._common import in_process, memory_mib, show, speedup
from patchdm.config import load_params
from patchdm.extract.extract import extract
from patchdm.extract.splits import lay_out
from patchdm.extract.store_writer import RECORD, ShardWriter, write_index
from patchdm.files import sha256
from patchdm.formats.images import Pixels
from patchdm.formats.patch_store import PatchStore
from patchdm.formats.raw import Photograph
from patchdm.memory import keep_freed_memory
from patchdm.training.image import window_draw
from patchdm.training.windows import read_windows

BUNDLED = Path("data/bundled/landscapes-free-768x384.zip")
MIDDLE = (128, 64, 640, 320)
"""512 x 256 pixels of a photograph of 768 x 384."""
PARAMS = Path("params.yaml")
PHOTOGRAPHS = [(2048, 1024), (3072, 2048), (4096, 3072)]
SIZES = [(256, 256), (1024, 512), (1024, 1024)]
BATCH = 32


def main() -> None:
    """Print a table per size of the photographs, and one of the store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=int, default=96)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as stages do
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for width, height in PHOTOGRAPHS:
            layout = _photographs(folder / "raw", args.photographs, width, height)
            rows = [_extraction(folder, layout, size, args.workers, args.repeats) for size in SIZES]
            kilobytes = layout["original_bytes"].mean() / 1e3
            show(f"{len(layout)} JPEGs of {width}x{height} pixels, {kilobytes:.0f} kB", rows)
            shutil.rmtree(folder / "raw")
        show("Patch store", [in_process(_store, folder, *size) for size in SIZES[:2]])


def _photographs(raw: Path, count: int, width: int, height: int) -> pd.DataFrame:
    """Write mosaics and return their layout."""
    with zipfile.ZipFile(BUNDLED) as archive:
        pieces = [
            Image.open(io.BytesIO(archive.read(m))).convert("RGB").crop(MIDDLE)
            for m in archive.namelist()
            if m.endswith(".jpg")
        ]
    raw.mkdir()
    draws = np.random.default_rng(0)
    rows = []
    for number in range(count):
        mosaic = Image.new("RGB", (width, height))
        places = itertools.product(range(0, width, 512), range(0, height, 256))
        order = draws.permutation(len(pieces)).tolist()
        for place, piece in zip(places, order, strict=False):
            mosaic.paste(pieces[piece], place)
        path = raw / f"{number:04d}.jpg"
        mosaic.save(path, quality=90)
        rows.append(Photograph(path.name, "", "", sha256(path), path.stat().st_size))
    return lay_out(pd.DataFrame(rows), 0.1, views=1, flips=False)


def _extraction(
    folder: Path, layout: pd.DataFrame, size: tuple[int, int], workers: int, repeats: int
) -> dict[str, object]:
    """Time decoding and extraction to one size, in turns."""
    raw, state = folder / "raw", folder / "state"
    contents = [(raw / name).read_bytes() for name in layout["source"]]

    def decode() -> None:
        for content in contents:
            Image.open(io.BytesIO(content)).load()

    def extraction(processes: int) -> Callable[[], None]:
        def run() -> None:
            shutil.rmtree(state, ignore_errors=True)
            extract(
                raw,
                layout,
                state,
                width=size[0],
                height=size[1],
                views=1,
                view_scale=(1.0, 1.0),
                test_fraction=0.1,
                damaged_fraction=0.0,
                workers=processes,
                report=lambda _: None,
            )

        return run

    alone, worker = [], []
    for _ in range(repeats):
        alone.append(_cpu_seconds(decode))
        worker.append(_cpu_seconds(extraction(1)))
    start = time.perf_counter()
    extraction(workers)()
    many = time.perf_counter() - start
    return {
        "to": f"{size[0]}x{size[1]}",
        "decoding alone, images/s": round(len(layout) / float(np.median(alone)), 1),
        "a worker, images/s": round(len(layout) / float(np.median(worker)), 1),
        "share": f"{speedup(alone, worker):.0%}",
        "bar": "80%",
        f"{workers} workers by the clock, images/s": round(len(layout) / many, 1),
    }


def _cpu_seconds(call: Callable[[], None]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def _store(folder: Path, width: int, height: int) -> dict[str, object]:
    """Time windows of a store of 400 MB, and see what reading it all leaves resident."""
    torch.set_num_threads(1)
    target = folder / f"store-{width}"
    count = 400 * 10**6 // (width * height * 3)
    _noise(target, count, width, height)
    store = PatchStore(target)
    draws = np.random.default_rng(0)
    row: dict[str, object] = {"images": f"{count} of {width}x{height}"}
    for patch_size in (32, 64):
        rate = _windows(store, patch_size, draws)
        row[f"windows/s of {2 * patch_size} px (bar: 5000)"] = round(rate)
    before = memory_mib("VmRSS")
    for patch_size in (32, 64):
        _windows(store, patch_size, draws)
    row["resident, MiB"] = round(before)
    row["after two epochs more (bar: 5%)"] = f"{memory_mib('VmRSS') / before - 1:+.1%}"
    keep_freed_memory()
    for patch_size, bar in ((16, ""), (64, " (bar: 6000)")):
        row[f"draws/s, p = {patch_size}{bar}"] = round(_draws(store, patch_size))
    shutil.rmtree(target)
    return row


def _windows(store: PatchStore, patch_size: int, draws: np.random.Generator) -> float:
    """Read a window of every image, shuffled; return windows a second."""
    order = draws.permutation(len(store))
    rows = draws.integers(store.height // patch_size, size=len(store))
    cols = draws.integers(store.width // patch_size, size=len(store))
    start = time.perf_counter()
    for first in range(0, len(store), BATCH):
        batch = slice(first, first + BATCH)
        read_windows(store, order[batch], rows[batch], cols[batch], patch_size)
    return len(store) / (time.perf_counter() - start)


def _draws(store: PatchStore, patch_size: int) -> float:
    """Return the windows that are drawn in a second of CPU, with all that a training draws."""
    params = load_params(PARAMS)
    model = params.model.model_copy(update={"patch_size": patch_size})
    draw = window_draw(model, params.train, params.diffusion, store, seed=0)
    draw(range(BATCH))
    seconds = [
        _cpu_seconds(lambda first=first: draw(range(first, first + BATCH)))
        for first in range(0, 100 * BATCH, BATCH)
    ]
    return BATCH / float(np.median(seconds))


def _noise(folder: Path, count: int, width: int, height: int) -> None:
    folder.mkdir()
    writer = ShardWriter(folder, height, width)
    draws = np.random.default_rng(0)
    for _ in range(count):
        image: Pixels = draws.integers(0, 256, (1, height, width, 3), np.uint8)
        writer.append(image)
    writer.finish()
    records = np.zeros(count, RECORD)
    records["row"], records["kept"] = np.arange(count), True
    write_index(folder, pd.DataFrame({"split": ["train"] * count}), records)


if __name__ == "__main__":
    main()
