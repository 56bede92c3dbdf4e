"""JSON schemas, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_TYPES = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "`true` or `false`",
    "null": "`null`",
    "object": "object",
    "binary": "bytes",
}
_LIMITS = (
    ("minimum", "at least {}"),
    ("exclusiveMinimum", "above {}"),
    ("maximum", "at most {}"),
    ("exclusiveMaximum", "below {}"),
)


def in_words(schema: Mapping[str, Any], named: Callable[[str], str] = str) -> str:
    """Return what values a schema takes; `named` is the text for the name of another schema."""
    if reference := schema.get("$ref"):
        return named(str(reference).rpartition("/")[2])
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(in_words(each, named) for each in choices)
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return _count(schema) + in_words(schema.get("items", {}), named)
    kind = "binary" if schema.get("format") == "binary" else schema.get("type", "")
    limits = [text.format(f"{schema[key]:g}") for key, text in _LIMITS if key in schema]
    return f"{_TYPES.get(kind, 'anything')} {' and '.join(limits)}".strip()


def _count(schema: Mapping[str, Any]) -> str:
    least, most = schema.get("minItems", 0), schema.get("maxItems")
    if most == least:
        return f"list of {most}: "
    limits = (f" of {least} or more" if least else "") + (f" of at most {most}" if most else "")
    return f"list{limits}: "


def one_paragraph(text: str | None) -> str:
    """Return a docstring without its line breaks; paragraphs stay apart by a space."""
    return " ".join((text or "").split())
