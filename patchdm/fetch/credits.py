"""Who made the photographs of a folder: credits.csv in it, with file, author and licence."""

from __future__ import annotations

from pathlib import Path

from patchdm.errors import PatchDMError
from patchdm.fetch.sources.listing import read_csv

CREDITS = "credits.csv"
COLUMNS = ["file", "author", "licence"]


def read_licences(folder: Path) -> dict[str, str]:
    """Return file -> licence, as a folder's credits.csv has them; empty: it has none.

    Files are named by their paths below the folder. The report reads the authors.

    Raises:
        PatchDMError: other columns, or a file twice.
    """
    path = folder / CREDITS
    if not path.is_file():
        return {}
    header, *rows = read_csv(path)
    if header != COLUMNS:
        raise PatchDMError(f"{path}: found the columns {header}, expected {COLUMNS}")
    licences: dict[str, str] = {}
    for row in rows:
        if len(row) != len(COLUMNS):
            raise PatchDMError(f"{path}: found {row}, expected the columns {COLUMNS}")
        file, _author, licence = row
        if file in licences:
            raise PatchDMError(f"{path}: {file} is listed twice, expected once")
        licences[file] = licence
    return {file: licence for file, licence in licences.items() if licence.strip()}
