"""Which files of a source are photographs, and which names photographs may have on any disk."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from pathlib import PurePosixPath, PureWindowsPath

from patchdm.formats.images import HAS_HEIF, HEIF_SUFFIXES, SUFFIXES
from patchdm.formats.raw import LMDB, MANIFEST, OUTCOMES

_LONGEST_PART, _LONGEST, _DEEPEST = 200, 1000, 32
_KEPT = {MANIFEST, OUTCOMES, LMDB}
_IGNORED = {".git", ".hg", ".dvc"}
_CONTROL = {"Cc", "Cs", "Zl", "Zp"}
"""Unicode categories: control, surrogates (bytes that are no UTF-8), line and paragraph."""
_SYSTEM = {
    "__macosx", "icon\r", "network trash folder", "temporary items",  # macOS
    "@eadir", "@recycle", "@recently-snapshot", "@tmp", "#recycle", "#snapshot",  # NAS
    "$recycle.bin", "recycler", "recycled", "system volume information", "found.000",  # Windows
    "thumbs.db", "ehthumbs.db", "desktop.ini",
    "lost.dir", "lost+found",  # Android, Linux
}  # fmt: skip
"""Names of files and folders that systems create, in lower case."""
_MOST_KINDS = 8
"""Suffixes that a message counts separately."""


def is_system(name: str) -> bool:
    """Return whether a system created a path for itself: thumbnails, forks, its bin.

    It is hidden (`._IMG_1.jpg`, `.thumbnails/1.jpg`, `.trashed-1-IMG_1.jpg`) or has one of the
    names that systems use, or lies below such a folder.
    """
    parts = [part.casefold() for part in name.split("/") if part != "."]
    hidden = any(part.startswith(".") and not part.startswith("..") for part in parts)
    return hidden or not _SYSTEM.isdisjoint(parts)


class PassedOver:
    """Counts the files of a source that are no photographs, by kind."""

    def __init__(self) -> None:
        self._suffixes, self._others = Counter[str](), Counter[str]()

    def takes(self, name: str) -> bool:
        """Return whether a file of the source is taken, by its untrusted path; count it if not."""
        if is_system(name):
            self.add("of a system's own, as hidden files and thumbnails are")
            return False
        suffix = PurePosixPath(name.partition("\0")[0]).suffix.lower()
        if suffix not in SUFFIXES:
            self._suffixes[suffix] += 1
        return suffix in SUFFIXES

    def add(self, what: str) -> None:
        """Count a file that is not taken for another reason, in the message's words."""
        self._others[what] += 1

    def __str__(self) -> str:
        """Return one line; empty: every file is taken."""
        total = self._suffixes.total() + self._others.total()
        counts = [(_kind(suffix), n) for suffix, n in self._suffixes.most_common(_MOST_KINDS)]
        counts.append(("of other kinds", self._suffixes.total() - sum(n for _, n in counts)))
        words = [f"{n} {kind}" for kind, n in [*counts, *self._others.items()] if n]
        files = "file" if total == 1 else "files"
        return f"passed over {total} {files}: {', '.join(words)}" if total else ""


def _kind(suffix: str) -> str:
    """Return the message's words for files of a suffix, which may be any text."""
    if suffix in HEIF_SUFFIXES and not HAS_HEIF:
        return f"{suffix} (`pip install pillow-heif` lets them be read)"
    return suffix if re.fullmatch(r"\.[\w-]{1,12}", suffix) else "without a known suffix"


class Names:
    """The names given so far, which differ in more than case and Unicode form."""

    def __init__(self) -> None:
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def refuse(self, name: str) -> str | None:
        """Add a name, or return why it is refused."""
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
    """Return what is wrong with a single name; None: nothing."""
    parts = name.split("/")
    if "\\" in name or {"", ".", ".."} & set(parts) or PureWindowsPath(name).drive:
        return f"found the name {shown(name)}, expected inner paths"
    if any(unicodedata.category(character) in _CONTROL for character in name):
        return f"found the name {shown(name)}, expected text without control characters"
    sizes = [len(part.encode()) for part in parts]
    if max(sizes) > _LONGEST_PART or sum(sizes) > _LONGEST or len(sizes) > _DEEPEST:
        return (
            f"found the name {shown(name)}, expected {_LONGEST_PART} bytes a part, "
            f"{_LONGEST} in all, and {_DEEPEST} parts"
        )
    folded = {part.casefold() for part in parts}
    reserved = any(PureWindowsPath(part).is_reserved() or part[-1] in ". " for part in parts)
    if reserved or parts[0].casefold() in _KEPT or folded & _IGNORED:
        return f"found the name {shown(name)}, which means something else to a tool or system"
    return None


def _folded(name: str) -> str:
    """Return the form that two names share if a disk may confuse them."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())
