"""An HTML page taken apart, as tests of the report look at it."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser

import numpy as np
from PIL import Image

VOID = {"img", "meta", "link", "br", "hr", "input"}
REFERENCES = {"src", "href", "srcset", "poster", "data", "action"}


class Page(HTMLParser):
    """What a page holds; fails on tags that do not match.

    Attributes:
        tags: names of all elements.
        references: values of all attributes that may point outside.
        images: PNG bytes of each image in order.
        alts: their alternative texts.
        tables: of each table the cells by row, header first.
        texts: all visible text by the id of its section, "" outside of any.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.images: list[bytes] = []
        self.alts: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.texts: dict[str, str] = {}
        self._open: list[str] = []
        self._section = ""
        self.feed(html)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = dict(attrs)
        self.references += [value or "" for name, value in attrs if name in REFERENCES]
        if tag == "img":
            kind, _, data = (values["src"] or "").partition("base64,")
            assert kind == "data:image/png;"
            self.images.append(base64.b64decode(data, validate=True))
            self.alts.append(values["alt"] or "")
        elif tag == "section":
            self._section = values["id"] or ""
        elif tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in {"td", "th"}:
            self.tables[-1][-1].append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag == "section":
            self._section = ""

    def handle_data(self, data: str) -> None:
        if {"style", "script"} & set(self._open):
            return
        self.texts[self._section] = self.texts.get(self._section, "") + data
        if {"td", "th"} & set(self._open):
            self.tables[-1][-1][-1] += data


def pixels(png: bytes) -> np.ndarray:
    """Decode a PNG as uint8 (H, W, 3)."""
    return np.asarray(Image.open(io.BytesIO(png), formats=["PNG"]).convert("RGB"))
