"""What the report's page is made of: sections of tables and pictures, and the words with them."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class Picture:
    """A PNG of the page, its file name without suffix, and the words that go with it."""

    name: str
    title: str
    caption: str
    png: bytes

    @property
    def uri(self) -> str:
        """The image as a data URI."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, as the PNG's header has them."""
        width, height = struct.unpack(">II", self.png[16:24])
        return width, height


@dataclass(frozen=True)
class Table:
    """A table in words: a caption, titles of columns, rows of cells; `strong` is a row in bold."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    strong: int | None = None
    prose: bool = False  # words to read, not numbers to compare

    def filled(self) -> Table:
        """Return the table without the columns that say nothing in any row."""
        kept = [i for i, cells in enumerate(zip(*self.rows, strict=True)) if {*cells} - {"", "–"}]
        rows = [[row[i] for i in kept] for row in self.rows]
        return replace(self, header=[self.header[i] for i in kept], rows=rows)


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page with a heading; one without tables and pictures is left out."""

    key: str  # its id in the page
    title: str
    text: str
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()  # after the tables
    shape: Literal["", "wide", "rows"] = ""  # some side by side, two, or one with its words aside
    photographs: Sequence[int] = ()  # rows of the patch store that the pictures show
