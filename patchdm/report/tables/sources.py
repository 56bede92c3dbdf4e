"""What a metric is measured by. Numbers of different sources never share a column."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from patchdm.errors import PatchDMError


class Source(NamedTuple):
    """A feature extractor and the number of images."""

    extractor: str
    n: int

    def __str__(self) -> str:
        """Return what titles say of it."""
        return f"{self.extractor}, n = {self.n:,}"


def one_source(sources: Iterable[Source], column: str) -> Source:
    """Return the source of a column's numbers.

    Raises:
        PatchDMError: they have more than one.
    """
    found = sorted(set(sources))
    if len(found) != 1:
        raise PatchDMError(
            f"column {column}: found numbers of {' and of '.join(map(str, found))}, expected "
            "one extractor and one n"
        )
    return found[0]
