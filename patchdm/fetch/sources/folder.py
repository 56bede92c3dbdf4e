"""A folder of images."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from patchdm.config.data import Data
from patchdm.errors import PatchDMError
from patchdm.fetch.arrival import copy
from patchdm.fetch.credits import CREDITS, read_licences
from patchdm.fetch.names import PassedOver, is_system
from patchdm.fetch.sources.listing import Listed, Listing, Workspace, one_by_one


@contextmanager
def open_listing(data: Data, workspace: Workspace) -> Iterator[Listing]:
    """Yield every photograph below a folder, links followed, in the order of their paths.

    Their licences are those of its credits.csv, if it has one.
    """
    location = workspace.root / data.location
    if not location.is_dir():
        raise PatchDMError(f"{location}: data.location is no folder, source `folder` needs one")
    passed_over = PassedOver()
    paths = sorted(_Walk(location, passed_over).photographs())
    if not paths:
        raise PatchDMError(f"{location}: found no image, {str(passed_over) or 'it is empty'}")
    licences = read_licences(location)
    photographs = (_listed(location, path, licences) for path in paths)
    yield one_by_one(photographs, len(paths), workspace, passed_over)


class _Walk:
    """The photographs below a folder, each once, by a path without links if there is one.

    Links may form a circle, or lead to another path below the folder.
    """

    def __init__(self, location: Path, passed_over: PassedOver) -> None:
        self._location, self._passed_over = location, passed_over
        self._folders, self._links = deque([location]), list[Path]()
        self._entered, self._targets = set[Path](), set[Path]()

    def photographs(self) -> Iterator[Path]:
        """Yield their paths; links to files come last, since they may lead into linked folders."""
        while self._folders:
            yield from self._below(self._folders.popleft())
        for link in self._links:
            target = link.resolve()
            taken = target.parent in self._entered and PassedOver().takes(target.name)
            if taken or target in self._targets:
                self._passed_over.add("behind a second link")
                continue
            self._targets.add(target)
            yield link

    def _below(self, top: Path) -> Iterator[Path]:
        """Yield the photographs below a folder that are no links; keep links for later."""
        for folder, names, files in os.walk(top, onerror=self._refuse):
            names.sort()  # of two links to one folder the first is followed
            if not is_system(self._name(folder)):  # whose files are only counted
                real = Path(folder).resolve()
                if real in self._entered:
                    self._passed_over.add("behind a second link")
                    names.clear()
                    continue
                self._entered.add(real)
                linked = (Path(folder, name) for name in names)
                self._folders += [path for path in linked if path.is_symlink()]
            for name in sorted(files):
                path = Path(folder, name)
                if self._name(path) == CREDITS:
                    continue
                if not self._passed_over.takes(self._name(path)):
                    continue
                if not os.path.isfile(path):  # noqa: PTH113 - which raises without permission
                    self._passed_over.add("that is no readable file (a broken link, a pipe)")
                elif path.is_symlink():
                    self._links.append(path)
                else:
                    yield path

    def _name(self, path: Path | str) -> str:
        return Path(path).relative_to(self._location).as_posix()

    def _refuse(self, error: OSError) -> None:
        if not is_system(self._name(error.filename)):
            raise PatchDMError(f"{error.filename}: cannot be read: {error.strerror}") from None


def _listed(location: Path, path: Path, licences: dict[str, str]) -> Listed:
    image = path.relative_to(location).as_posix()
    try:
        status = path.stat()
        version = f"{status.st_ino} {status.st_size} {status.st_mtime_ns}"
    except OSError:  # `_copy` reports it
        version = ""
    licence = licences.get(image, "unknown")
    return Listed(image, str(path), image, partial(_copy, path), version, licence)


def _copy(path: Path, target: Path) -> None:
    try:
        stream = path.open("rb")
    except OSError as error:
        raise PatchDMError(f"{path}: cannot be read: {error.strerror}") from None
    with stream:
        copy(stream, target, str(path))
