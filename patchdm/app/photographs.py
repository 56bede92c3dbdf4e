"""The photographs that a model learnt from: those of its run, or a folder or archive of them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from patchdm.cli.models import run_of
from patchdm.errors import PatchDMError
from patchdm.fetch.archives import members
from patchdm.fetch.arrival import MAX_BYTES
from patchdm.fetch.names import PassedOver
from patchdm.formats.images import Pixels, read_views
from patchdm.formats.patch_store import PatchStore
from patchdm.formats.views import View
from patchdm.metrics.neighbours import thumbnails
from patchdm.pipeline import PatchDMPipeline

MOST_READ = 2**31
"""Bytes of pixels that are read of a store."""
MOST_IMAGES = 2**16
MOST_FILES = 2000
"""Photographs that are decoded, which takes some hundredths of a second each."""
BLOCK = 2**26
"""Bytes of pixels in memory at once."""
PARTS = [View(0.6, x, y) for y in (0, 0.5, 1) for x in (0, 0.5, 1)]
VIEWS = [
    view._replace(mirrored=mirrored) for view in (View(), *PARTS) for mirrored in (False, True)
]
"""What is compared of a photograph whose views in the training are not known."""


@dataclass(frozen=True)
class Small:
    """Thumbnails of the images that are compared.

    Attributes:
        thumbnails: (n, h, w, 3) uint8.
        photographs: of each image the number of its photograph, (n,).
        names: of the photographs, as far as they are shown.
        total: number of photographs there are; a part of them may be compared.
    """

    thumbnails: Pixels
    photographs: NDArray[np.int64]
    names: Sequence[str]
    total: int


class Images(Protocol):
    """Training images.

    Attributes:
        given: whether the user named them; else they are those of the model's run, to the image.
    """

    given: bool

    def small(self) -> Small:
        """Return their thumbnails, which takes seconds or minutes."""

    def picture(self, number: int) -> Pixels:
        """Return an image by its number among the thumbnails, (H, W, 3)."""


class OfRun:
    """The training images of a run's patch store, all views of a photograph where they are few."""

    given = False

    def __init__(self, store: PatchStore) -> None:
        self._store = store
        each = store.height * store.width * 3
        most = min(MOST_IMAGES, MOST_READ // each)
        self._rows = store.rows("train")
        if len(self._rows) > most:
            self._rows = spread(store.photographs("train"), most)
        self._block = max(1, BLOCK // each)

    def small(self) -> Small:
        """Return their thumbnails."""
        store, rows = self._store, self._rows
        blocks = [rows[at : at + self._block] for at in range(0, len(rows), self._block)]
        found = np.concatenate([thumbnails(store.images(block)) for block in blocks])
        sources = store.columns("source")["source"].to_numpy()
        names, photographs = np.unique(sources[rows], return_inverse=True)
        return Small(found, photographs, names.tolist(), len(store.photographs("train")))

    def picture(self, number: int) -> Pixels:
        """Return an image."""
        image: Pixels = self._store.images(self._rows[[number]])[0]
        return image


class OfFiles:
    """Photographs of a folder or archive, each whole, in parts, and mirrored.

    Args:
        path: of the folder or archive.
        height, width: of a training image.

    Raises:
        PatchDMError: there are none.
    """

    given = True

    def __init__(self, path: Path, height: int, width: int) -> None:
        self._path, self._size = path, (width, height)
        names = sorted(name for name, _ in self._open())
        if not names:
            raise PatchDMError(f"{path}: found no image")
        self._names, self._total = [*spread(np.array(names), MOST_FILES)], len(names)
        self._read: list[str] = []

    def small(self) -> Small:
        """Return their thumbnails; what is no image is left out."""
        width, height = self._size
        _, h, w, _ = thumbnails(np.zeros((1, height, width, 3), np.uint8)).shape
        found, self._read = [], []
        wanted = set(self._names)
        for name, file in self._open():
            if name in wanted:
                with contextlib.suppress(PatchDMError):
                    found += read_views(_bytes(file), w, h, VIEWS, least_scale=0.6, name=name)[0]
                    self._read.append(name)
        if not found:
            raise PatchDMError("photographs: found none that can be read")
        photographs = np.repeat(np.arange(len(self._read)), len(VIEWS))
        return Small(np.stack(found), photographs, self._read, self._total)

    def picture(self, number: int) -> Pixels:
        """Return an image."""
        wanted, view = self._read[number // len(VIEWS)], VIEWS[number % len(VIEWS)]
        for name, file in self._open():
            if name == wanted:
                return read_views(_bytes(file), *self._size, [view], least_scale=0.6, name=name)[0][
                    0
                ]
        raise PatchDMError(f"{PurePosixPath(wanted).name}: is gone")

    def _open(self) -> Iterator[tuple[str, Any]]:
        """Yield names and what opens each, in the order of the source."""
        if not self._path.is_dir():
            for member in members(self._path, self._path.name):
                if member.refused is None:
                    yield member.name, member.open
            return
        for path in self._path.rglob("*"):
            name = path.relative_to(self._path).as_posix()
            if PassedOver().takes(name) and path.is_file():
                yield name, lambda path=path: path.open("rb")


def images_of(model: Path, pipe: PatchDMPipeline, given: Path | None) -> Images | None:
    """Return the training images of a model, without reading them; None: it came without.

    Args:
        model: its folder.
        pipe: the model.
        given: folder or archive of its photographs; None: those of its run, if they are there.

    Raises:
        PatchDMError: what is given holds no images.
    """
    size = pipe.unet.config.sample_size
    if given is not None:
        p = pipe.unet.config.patch_size
        return OfFiles(given, *(size or (p, p)))
    folder = model.resolve().parent / "patches"
    if not folder.is_dir() or run_of(model, pipe) is None:
        return None
    try:
        store = PatchStore(folder)
    except PatchDMError:
        return None
    return OfRun(store) if (store.height, store.width) == tuple(size or ()) else None


def spread(items: NDArray[Any], most: int) -> NDArray[Any]:
    """Return at most so many items, evenly spread over all."""
    if len(items) <= most:
        return items
    return items[np.linspace(0, len(items) - 1, most).round().astype(int)]


def _bytes(opener: Any) -> io.BytesIO:
    """Return the content of a file, whose name is not trusted to say how much there is."""
    with opener() as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise PatchDMError(f"found more than {MAX_BYTES} bytes, the limit")
    return io.BytesIO(content)
