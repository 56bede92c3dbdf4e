"""Sources of photographs, one module each: what data.source can be.

A source is a context manager around a `Listing`; `patchdm.fetch.fetch` makes data/raw of it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from patchdm.config.data import Data, is_address
from patchdm.errors import PatchDMError
from patchdm.fetch.sources.archive import open_archive
from patchdm.fetch.sources.bundled import open_bundled
from patchdm.fetch.sources.folder import open_folder
from patchdm.fetch.sources.hub import open_hub
from patchdm.fetch.sources.listing import Listing, Place
from patchdm.fetch.sources.lsun import open_lsun
from patchdm.fetch.sources.s3 import open_s3
from patchdm.fetch.sources.table import open_table

__all__ = ["SOURCES", "Listing", "Place", "count"]

SOURCES: dict[str, Callable[[Data, Place], AbstractContextManager[Listing]]] = {
    "bundled": open_bundled,
    "folder": open_folder,
    "archive": open_archive,
    "lsun": open_lsun,
    "hub": open_hub,
    "table": open_table,
    "s3": open_s3,
}
"""Every value of params key data.source."""


def count(data: Data, root: Path = Path()) -> int:
    """Return how many photographs a source lists, without bringing them.

    Args:
        data: section data of the run.
        root: what a relative location is relative to.

    Raises:
        PatchDMError: it cannot be listed, or only once it is downloaded.
    """
    if data.source == "hub" or is_address(data.location):
        raise PatchDMError(f"{data.location}: how many photographs it has is known once it is here")
    with tempfile.TemporaryDirectory() as state:
        place = Place(root, Path(state), 1, _silent)
        with SOURCES[data.source](data, place) as listing:
            return listing.total


@contextmanager
def _silent(_name: str, _total: int, _unit: str) -> Iterator[Callable[[int], None]]:
    yield lambda _done: None
