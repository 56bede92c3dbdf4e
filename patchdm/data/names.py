"""Which names a photograph may have below data/raw, on any disk it may be copied to."""

from __future__ import annotations

import unicodedata
from pathlib import PurePosixPath, PureWindowsPath

from patchdm.data.raw import LMDB, MANIFEST, OUTCOMES

_LONGEST_PART, _LONGEST, _DEEPEST = 200, 1000, 32
_KEPT = {MANIFEST, OUTCOMES, LMDB}
_IGNORED = {".git", ".hg", ".dvc"}
_CONTROL = {"Cc", "Cs", "Zl", "Zp"}
"""Unicode categories: control, surrogates (bytes that are no UTF-8), line and paragraph."""


class Names:
    """The names given so far, none of which is another's in a different case or Unicode form."""

    def __init__(self) -> None:
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def refuse(self, name: str) -> str | None:
        """Take a name in, or say why not."""
        if reason := refuse(name):
            return reason
        path = PurePosixPath(_folded(name))
        parents = {str(parent) for parent in path.parents[:-1]}
        if str(path) in self._files | self._folders or parents & self._files:
            return f"found the name {shown(name)} twice, but for case or Unicode form"
        self._files.add(str(path))
        self._folders |= parents
        return None


def shown(name: str) -> str:
    """Quote a name for a message or table: one line, any bytes, at most 100 characters."""
    quoted = ascii(name) if not name.isprintable() else repr(name)
    return quoted if len(quoted) <= 100 else f"{quoted[:90]}...{quoted[-7:]}"


def refuse(name: str) -> str | None:
    """Say what is wrong with a name on its own; None: nothing."""
    parts = name.split("/")
    if "\\" in name or {"", ".", ".."} & set(parts) or PureWindowsPath(name).drive:
        return f"found the name {shown(name)}, allowed are inner paths"
    if any(unicodedata.category(character) in _CONTROL for character in name):
        return f"found the name {shown(name)}, allowed is text without control characters"
    sizes = [len(part.encode()) for part in parts]
    if max(sizes) > _LONGEST_PART or sum(sizes) > _LONGEST or len(sizes) > _DEEPEST:
        return (
            f"found the name {shown(name)}, allowed are {_LONGEST_PART} bytes a part, "
            f"{_LONGEST} in all, and {_DEEPEST} parts"
        )
    folded = {part.casefold() for part in parts}
    reserved = any(PureWindowsPath(part).is_reserved() or part[-1] in ". " for part in parts)
    if reserved or parts[0].casefold() in _KEPT or folded & _IGNORED:
        return f"found the name {shown(name)}, which means something else to a tool or system"
    return None


def _folded(name: str) -> str:
    """Return what names share that a disk may take for the same."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())
