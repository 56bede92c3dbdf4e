"""A table of URLs, for data sets that nobody may publish."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import pandas as pd

from patchdm.config.data import Data
from patchdm.errors import PatchDMError, one_line
from patchdm.fetch.arrival import MAX_BYTES
from patchdm.fetch.sources.listing import Listed, Listing, Workspace, at_once, read_csv
from patchdm.fetch.transfer import open_session, transfer
from patchdm.formats.images import SUFFIXES

COLUMNS = ("url", "sha256", "name", "licence")
"""Columns that are read; only `url` is required. An empty cell counts as missing."""


@contextmanager
def open_listing(data: Data, workspace: Workspace) -> Iterator[Listing]:
    """Yield the photograph of every row of a CSV or parquet file.

    A row without a name is named by its number and the suffix of its URL.
    """
    rows = _read(workspace.root / data.location)
    with open_session(workspace.transfers) as session:
        photographs, times = list[Listed](), Counter[str]()
        for number, (url, sha256, name, licence) in enumerate(zip(*rows, strict=True)):
            times[url] += 1
            photographs.append(
                Listed(
                    name or f"{number:08}{_suffix(url)}",
                    url,
                    url,
                    partial(transfer, session, url, limit=MAX_BYTES),
                    version=f"{sha256} {times[url]}",  # the same one twice is two transfers
                    licence=licence or "unknown",
                    sha256=sha256 or None,
                )
            )
        yield at_once(photographs, workspace)


def _read(path: Path) -> list[list[str]]:
    """Read COLUMNS of a table as text, empty where it is missing."""
    try:
        if path.suffix == ".parquet":
            found = pd.read_parquet(path)
        else:
            header, *lines = read_csv(path)
            full = [line + [""] * (len(header) - len(line)) for line in lines]
            found = pd.DataFrame(full, columns=header, dtype=str)
    except (OSError, ValueError) as error:  # ValueError: no parquet
        raise PatchDMError(f"{path}: no readable CSV or parquet: {one_line(error)[:200]}") from None
    twice = [name for name in COLUMNS if list(found.columns).count(name) > 1]
    if twice:
        raise PatchDMError(f"{path}: found the column {twice[0]} twice, expected it once")
    if "url" not in found.columns:
        columns = ", ".join(map(str, found.columns))[:100]
        raise PatchDMError(f"{path}: found the columns {columns}, one must be url")
    if found.empty:
        raise PatchDMError(f"{path}: found no row")
    present = [found.get(name, [""] * len(found)) for name in COLUMNS]
    urls, hashes, *others = (
        ["" if pd.isna(cell) else str(cell).strip() for cell in column] for column in present
    )
    hashes = [sha256.lower() for sha256 in hashes]
    for number, sha256 in enumerate(hashes):
        if not re.fullmatch(r"([0-9a-f]{64})?", sha256):
            raise PatchDMError(
                f"{path}: row {number} has sha256 {sha256!r}, expected 64 hex digits or nothing"
            )
    return [urls, hashes, *others]


def _suffix(url: str) -> str:
    """Return the suffix of a URL, if it is an image's."""
    try:
        suffix = PurePosixPath(urlsplit(url).path).suffix.lower()
    except ValueError:  # no URL: `transfer` reports it
        return ""
    return suffix if suffix in SUFFIXES else ""
