"""Sources of photographs: for each value of data.source a module with `open_listing`."""

from __future__ import annotations

import importlib
import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from patchdm.config.data import Data, is_url
from patchdm.errors import PatchDMError
from patchdm.fetch.sources.listing import Listing, Workspace


def open_source(data: Data, workspace: Workspace) -> AbstractContextManager[Listing]:
    """Open the source that section data names; the listing holds until the context ends.

    Raises:
        PatchDMError: it cannot be read or downloaded, is not the pinned one, is damaged, or lists
            nothing.
    """
    workspace.state.mkdir(exist_ok=True)
    # Only the source at hand is imported: clients of S3 and of the hub take a second.
    module = importlib.import_module(f"{__name__}.{data.source}")
    return module.open_listing(data, workspace)


def count(data: Data, root: Path = Path()) -> int:
    """Return how many photographs a source lists; refuse one that must be downloaded for it."""
    if data.source == "hub" or is_url(data.location):
        raise PatchDMError(f"{data.location}: how many photographs it has is known once it is here")
    with tempfile.TemporaryDirectory() as state:
        workspace = Workspace(root, Path(state), 1, lambda *_: nullcontext(lambda _done: None))
        with open_source(data, workspace) as listing:
            return listing.total
