"""Fetch a source to data/raw, like the stage."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from patchdm.config.data import Data
from patchdm.fetch.fetch import fetch
from patchdm.fetch.sources import open_source
from patchdm.fetch.sources.listing import Workspace
from patchdm.files import replacing
from patchdm.formats.raw import OUTCOMES, read_manifest
from tests.photographs import contents, data_params


class Raw(NamedTuple):
    """What arrived."""

    folder: Path
    manifest: pd.DataFrame
    outcomes: pd.DataFrame

    @property
    def files(self) -> dict[str, bytes]:
        """The photographs by name."""
        found = contents(self.folder)
        return {name: found[name] for name in found if not name.endswith(".parquet")}

    @property
    def reasons(self) -> dict[str, str]:
        """Why photographs were left out, by name."""
        left_out = self.outcomes[self.outcomes["outcome"] != "ok"]
        return dict(zip(left_out["image"], left_out["outcome"], strict=True))


@contextlib.contextmanager
def silent(_name: str, _total: int, _unit: str) -> Iterator[Callable[[int], None]]:
    """Stand in for the stage's progress bar."""
    yield lambda _done: None


def data_section(source: str, location: Path | str, **data: object) -> Data:
    """Return a checked section data."""
    values = data_params().data.model_dump() | {"source": source, "location": str(location)}
    return Data.model_validate(values | data)


def arrive(
    folder: Path, source: str, location: Path | str, *, transfers: int = 4, **data: object
) -> Raw:
    """Fetch a source to `folder/raw`; `folder/state` keeps what arrived."""
    section = data_section(source, location, **data)
    folder.mkdir(parents=True, exist_ok=True)
    workspace = Workspace(Path(), folder / "state", transfers, silent)
    raw, fraction = folder / "raw", section.damaged_fraction
    with open_source(section, workspace) as listing, replacing(raw) as fresh:
        fetch(listing, fresh, damaged_fraction=fraction, report=lambda _done: None)
    return Raw(raw, read_manifest(raw), pd.read_parquet(raw / OUTCOMES))
