"""Links of Markdown files of the repository, as links between pages of the site."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from pathlib import Path

FENCE = re.compile(r"^ *(```|~~~)")
LINK = re.compile(r"(!?)\[((?:[^\]\[]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
PICTURES = (".jpg", ".png", ".svg")


class DeadLinkError(Exception):
    """A link to a file that the repository does not have."""


def outside_fences(markdown: str, change: Callable[[str], str]) -> str:
    """Change the text of a page, but for its fenced blocks."""
    parts: list[str] = []
    text: list[str] = []
    fenced = False
    for line in [*markdown.splitlines(keepends=True), "```"]:  # a fence that ends the last text
        if FENCE.match(line):
            if not fenced:
                parts.append(change("".join(text)))
                text = []
            fenced = not fenced
            parts.append(line)
        else:
            (parts if fenced else text).append(line)
    return "".join(parts[:-1])


def pictures(markdown: str, origin: str) -> set[str]:
    """Return the pictures that a file shows, as paths in the repository."""
    found = (match for match in LINK.finditer(markdown) if match[1])
    return {_resolved(match[3].partition("#")[0], origin) for match in found}


def relinked(markdown: str, origin: str, page: str, root: Path, moved: Mapping[str, str]) -> str:
    """Return a page whose links lead to pages and pictures of the site.

    Args:
        markdown: the page.
        origin: the file of the repository that it is from, to which its links are relative.
        page: its own path in the site.
        moved: FILE or FILE#HEADING of the repository -> the page that has it.

    Raises:
        DeadLinkError: a link leads nowhere.
    """

    def link(match: re.Match[str]) -> str:
        shows, text, target = match.groups()
        path, _, heading = target.partition("#")
        if re.match("[a-z]+:", target):
            return match[0]
        file = _resolved(path, origin) if path else origin
        full = f"{file}#{heading}" if heading else file
        if not path and full not in moved:
            return match[0]  # a heading of the same page
        if not (root / file).exists():
            raise DeadLinkError(f"{origin}: {target} not found")
        if found := moved.get(full):
            site = found
        elif file.startswith("docs/") and Path(file).suffix in (".md", ".ipynb", *PICTURES):
            site = file.removeprefix("docs/") + (f"#{heading}" if heading else "")
        elif shows:
            site = file
        else:
            return text if "`" in text else f"{text} (`{file}`)" if text != file else f"`{file}`"
        there, _, anchor = site.partition("#")
        way = posixpath.relpath(there, posixpath.dirname(page) or ".")
        return f"{shows}[{text}]({way}{'#' + anchor if anchor else ''})"

    return outside_fences(markdown, lambda text: LINK.sub(link, text))


def indented(markdown: str) -> str:
    """Return a page whose lists are as Python-Markdown wants them.

    It wants a blank line before a list and four columns before what belongs to an item, where
    GitHub needs no line and two columns.
    """

    def change(text: str) -> str:
        lines: list[str] = []
        inside = False
        for line in text.split("\n"):
            before = lines[-1] if lines else ""
            item = line.startswith("- ")
            if item and not inside and before:
                lines.append("")
            if line and not line.startswith(" "):
                # A line at the margin goes on with an item, unless a blank line is before it.
                inside = item or (inside and bool(before) and not before.startswith(" "))
            lines.append(f"  {line}" if inside and re.match("  [^ ]", line) else line)
        return "\n".join(lines)

    return outside_fences(markdown, change)


def _resolved(path: str, origin: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(origin), path))
