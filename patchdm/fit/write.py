"""The params.yaml of a choice, with the reason for each value that was chosen."""

from __future__ import annotations

import io
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from patchdm.fit.choose import Choice

_KEY_INDENT = 2
_WIDTH = 98


def params_text(choice: Choice, title: str) -> str:
    """Return the file. A comment above a key says why it has its value; others are the preset's.

    `title` stands above all.
    """
    root = CommentedMap()
    for section, values in choice.values.items():
        keys = CommentedMap({name: _flow(value) for name, value in values.items()})
        for name in values:
            if why := choice.reasons.get(f"{section}.{name}"):
                lines = _wrapped(f"{_capital(why)}.", _WIDTH - _KEY_INDENT - 2)
                keys.yaml_set_comment_before_after_key(name, before=lines, indent=_KEY_INDENT)
        root[section] = keys
    root.yaml_set_start_comment(_wrapped(title, _WIDTH - 2))
    yaml, text = YAML(), io.StringIO()
    yaml.width = 2**16
    yaml.representer.add_representer(type(None), _null)
    yaml.dump(root, text)
    return text.getvalue()


def _flow(value: Any) -> Any:
    """Return a list as one that is written on one line."""
    if not isinstance(value, list):
        return value
    row = CommentedSeq(value)
    row.fa.set_flow_style()
    return row


def _null(representer: Any, _value: None) -> Any:
    return representer.represent_scalar("tag:yaml.org,2002:null", "null")


def _capital(text: str) -> str:
    return text if text.startswith("-") else text[:1].upper() + text[1:]


def _wrapped(text: str, width: int) -> str:
    """Break a text into lines, at spaces, also where it is a long path."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return "\n".join(lines)
