"""Modules that are there, and that this process is not to find: as if they were not installed."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.machinery import ModuleSpec
from typing import Any


class Without:
    """A finder of modules that knows all of another but some: as if they were not installed."""

    def __init__(self, finder: Any, names: Iterable[str]) -> None:
        self._finder = finder
        self._names = frozenset(names)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Find a module, unless it is one of those."""
        if name.partition(".")[0] in self._names:
            return None
        return self._finder.find_spec(name, path, target)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder, name)


def without(names: Iterable[str]) -> None:
    """Let this process find no module of some names from now on."""
    names = frozenset(names)
    for module in [each for each in sys.modules if each.partition(".")[0] in names]:
        del sys.modules[module]
    sys.meta_path[:] = [Without(finder, names) for finder in sys.meta_path]
