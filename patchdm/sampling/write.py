"""Writing the shards of a range of seeds: resumable, checked, shared by several processes.

Beside the shards lies `.progress/`: for each shard a lock, its part of the manifest with the hash
of every image that was written, and its images until it is finished. A shard is worked on by the
process that holds its lock, and no file is trusted but by its hash.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import pandas as pd

from patchdm.choices import Format
from patchdm.errors import PatchDMError
from patchdm.files import replacing, sha256
from patchdm.formats.images import Pixels, save_png
from patchdm.formats.shards import COLUMNS, MANIFEST, png_name
from patchdm.locks import locked

Draw = Callable[[Iterable[Sequence[int]]], Iterator[Pixels]]
"""Batches of seeds -> their images batch by batch, (n, H, W, 3)."""

SETTINGS = "samples.json"
PROGRESS = ".progress"
WRITERS = 4
"""Threads that compress images, which keeps none of them from computing others."""


@dataclass(frozen=True)
class Shard:
    """Some seeds in a row, and where their images lie; all paths are named by the first seed."""

    out: Path
    seeds: range
    format: Format

    @property
    def path(self) -> Path:
        """The finished shard."""
        return self.out / f"{self._name}{'.tar' if self.format == 'webdataset' else ''}"

    @property
    def work(self) -> Path:
        """The folder of its images while it is not finished."""
        return self.out / PROGRESS / self._name

    @property
    def part(self) -> Path:
        """Its part of the manifest: JSON of file name -> sha256; at last the tar's own too."""
        return self.out / PROGRESS / f"{self._name}.json"

    @property
    def lock(self) -> Path:
        """Locked by the process that works on it."""
        return self.out / PROGRESS / f"{self._name}.lock"

    @property
    def files(self) -> list[str]:
        """Names of its images."""
        return [png_name(seed) for seed in self.seeds]

    @property
    def _name(self) -> str:
        return f"{self.seeds.start:06d}"


def write_shards(
    draw: Draw,
    seeds: range,
    out: Path,
    *,
    shard_size: int,
    batch_size: int,
    format: Format,  # noqa: A002 - the word of params.yaml
    settings: Mapping[str, Any],
    on_progress: Callable[[int], None],
) -> bool:
    """Write the images of all seeds, and a manifest of them.

    Finished shards are checked, and what is damaged or missing is drawn again. Processes that
    share a folder take shards that nobody holds; the last one to finish writes the manifest.

    Args:
        draw: makes the images; the image of a seed must depend on that seed alone.
        seeds: one image each.
        out: a new or empty folder, or one that was begun with the same settings.
        shard_size: images of a shard.
        batch_size: seeds from a multiple of it to the next are drawn at once.
        format: of a shard.
        settings: what the images follow from, as JSON has it.
        on_progress: called with the number of images finished, as far as this process knows.

    Returns:
        Whether all is finished; if not, other processes hold the rest.

    Raises:
        PatchDMError: the folder was begun with other settings or holds something else.
    """
    _begin(out, dict(settings))
    shards = [
        Shard(out, seeds[start : start + shard_size], format)
        for start in range(0, len(seeds), shard_size)
    ]
    while True:
        with locked(out / PROGRESS / "lock", shared=True, wait=True):
            _finish_free(shards, draw, batch_size, on_progress)
        with locked(out / PROGRESS / "lock") as last:
            if not last:
                return False
            if _merge(out, shards):
                return True  # else a process died with a shard, which nobody holds now


def _finish_free(
    shards: list[Shard], draw: Draw, batch_size: int, on_progress: Callable[[int], None]
) -> None:
    """Finish all shards but those that other processes hold to the end."""
    done = 0
    while True:
        held = []
        for shard in shards:
            with locked(shard.lock) as mine:
                if mine:
                    _finish(shard, draw, batch_size, done, on_progress)
                    done += len(shard.seeds)
                else:
                    held.append(shard)
        if len(held) == len(shards) or not held:
            return
        shards = held  # what another process finished is checked, what it left is taken over


def _begin(out: Path, settings: dict[str, Any]) -> None:
    """Make the folder, or see that it was begun with the same settings."""
    path = out / SETTINGS
    try:
        (out / PROGRESS).mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise PatchDMError(f"{out}: found a file, expected a folder") from None
    with locked(out / PROGRESS / "begin.lock", wait=True):
        if path.is_file():
            _compare(path, settings)
            return
        others = sorted(file.name for file in out.iterdir() if not file.name.startswith("."))
        if others:
            raise PatchDMError(
                f"{out}: found {others[0]}, expected a new or empty folder, or one of samples"
            )
        with replacing(path) as fresh:
            fresh.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")


def _compare(path: Path, settings: dict[str, Any]) -> None:
    try:
        begun = dict(json.loads(path.read_bytes()))
    except (ValueError, TypeError):
        raise PatchDMError(f"{path}: not the settings of samples") from None
    for key in sorted(begun.keys() | settings.keys()):
        before, now = (json.dumps(values.get(key)) for values in (begun, settings))
        if before != now:
            raise PatchDMError(
                f"{path}: the folder was begun with {key} {before}, now it is {now}; "
                "expected the same settings or another folder"
            )


def _finish(
    shard: Shard, draw: Draw, batch_size: int, done: int, on_progress: Callable[[int], None]
) -> None:
    """Check a shard, and draw what it lacks; `done` images were finished before."""
    hashes = _recorded(shard)
    if _is_whole(shard, hashes):
        shutil.rmtree(shard.work, ignore_errors=True)  # where a kill came before _close was done
    else:
        _reopen(shard, hashes)
        missing = [
            seed
            for seed, name in zip(shard.seeds, shard.files, strict=True)
            if not _is_sound(shard.work / name, hashes)
        ]
        done_here = len(shard.seeds) - len(missing)
        groups = itertools.groupby(missing, key=lambda seed: seed // batch_size)
        batches = [list(group) for _, group in groups]
        for count in _draw(shard, hashes, draw, batches):
            done_here += count
            on_progress(done + done_here)
        _close(shard, hashes)
    on_progress(done + len(shard.seeds))


def _draw(
    shard: Shard, hashes: dict[str, str], draw: Draw, batches: list[list[int]]
) -> Iterator[int]:
    """Draw batches; yield 0, then the size of each that is saved, while the next is drawn."""

    def save(seed: int, image: Pixels) -> tuple[str, str]:
        path = shard.work / png_name(seed)
        save_png(path, image)
        return path.name, sha256(path)

    def save_all(batch: list[int], images: Pixels) -> int:
        hashes.update(pool.map(save, batch, images))
        _record(shard, hashes)
        return len(batch)

    with ThreadPoolExecutor(WRITERS) as pool, ThreadPoolExecutor(1) as writer:
        saving = writer.submit(int)
        for batch, images in zip(batches, draw(batches), strict=True):
            yield saving.result()
            saving = writer.submit(save_all, batch, images)
        yield saving.result()


def _recorded(shard: Shard) -> dict[str, str]:
    """Return the hashes of what was finished of a shard."""
    try:
        return dict(json.loads(shard.part.read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        return {}


def _record(shard: Shard, hashes: dict[str, str]) -> None:
    with replacing(shard.part) as fresh:
        fresh.write_text(json.dumps(hashes))


def _is_whole(shard: Shard, hashes: dict[str, str]) -> bool:
    """Whether the shard is finished, and as it was then to the bit."""
    if shard.format == "webdataset":
        return _is_sound(shard.path, hashes)
    if not shard.path.is_dir():
        return False
    found = {file.name: file for file in _visible(shard.path)}
    return found.keys() == set(shard.files) and all(
        _is_sound(file, hashes) for file in found.values()
    )


def _is_sound(path: Path, hashes: dict[str, str]) -> bool:
    return path.is_file() and sha256(path) == hashes.get(path.name)


def _reopen(shard: Shard, hashes: dict[str, str]) -> None:
    """Take the sound images of a damaged shard back to work; remove the rest and the manifest.

    Raises:
        PatchDMError: it holds a file that is none of its images.
    """
    if foreign := _foreign(shard):
        raise PatchDMError(
            f"{foreign}: found a file that is none of the samples, where a shard is written again "
            "as a whole; move it elsewhere"
        )
    shard.work.mkdir(exist_ok=True)
    for name, content in _contents(shard.path):
        if hashlib.sha256(content).hexdigest() == hashes.get(name):
            with replacing(shard.work / name) as fresh:
                fresh.write_bytes(content)
    (shard.out / MANIFEST).unlink(missing_ok=True)
    if shard.path.is_dir():
        shutil.rmtree(shard.path)
    else:
        shard.path.unlink(missing_ok=True)


def _foreign(shard: Shard) -> Path | None:
    """Return something in the place of a shard, or in its folder, that is none of its images."""
    if not shard.path.is_dir():
        return shard.path if shard.format == "png" and shard.path.exists() else None
    own = set(shard.files) if shard.format == "png" else set[str]()
    foreign = sorted(file for file in _visible(shard.path) if file.name not in own)
    return foreign[0] if foreign else None


def _visible(folder: Path) -> list[Path]:
    """Return what is in a folder, but for the hidden files that systems leave everywhere."""
    return [file for file in folder.iterdir() if not file.name.startswith(".")]


def _contents(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the files of a folder or tar, as far as it can be read."""
    if path.is_dir():
        yield from ((file.name, file.read_bytes()) for file in path.iterdir() if file.is_file())
    elif path.is_file():
        with contextlib.suppress(tarfile.TarError), tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.isfile():
                    yield member.name, cast(IO[bytes], tar.extractfile(member)).read()


def _close(shard: Shard, hashes: dict[str, str]) -> None:
    """Turn the images into the finished shard."""
    if shard.format == "png":
        shard.work.rename(shard.path)
        return
    with replacing(shard.path) as fresh:
        _pack(fresh, shard)
        _record(shard, hashes | {shard.path.name: sha256(fresh)})
    shutil.rmtree(shard.work)


def _pack(path: Path, shard: Shard) -> None:
    """Write a tar as WebDataset reads it, without times and owners: equal images, equal bytes."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for seed, name in zip(shard.seeds, shard.files, strict=True):
            label = json.dumps({"seed": seed}).encode()
            image = (shard.work / name).read_bytes()
            for file, content in ((name, image), (f"{Path(name).stem}.json", label)):
                member = tarfile.TarInfo(file)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def _merge(out: Path, shards: Iterable[Shard]) -> bool:
    """Write the manifest; False, if a shard is not finished."""
    rows: list[tuple[int, str, str, str]] = []
    for shard in shards:
        if not shard.path.exists():
            return False
        name, hashes = shard.path.name, _recorded(shard)
        rows += ((seed, name, png_name(seed), hashes[png_name(seed)]) for seed in shard.seeds)
    with replacing(out / MANIFEST) as fresh:
        pd.DataFrame(rows, columns=COLUMNS).to_parquet(fresh, index=False)
    return True
