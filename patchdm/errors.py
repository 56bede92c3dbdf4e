"""The exception that users read, and the line that commands print of any error."""

from __future__ import annotations

import errno
import os


class PatchDMError(Exception):
    """A mistake that the user can correct.

    The message is one line: the file or key, what was found and what is expected. Commands print
    it without a traceback.
    """


MISTAKES = (PatchDMError, OSError, UnicodeEncodeError)
"""Errors for which `mistake` may have a line."""

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of a full disk or an exhausted quota."""

_REFUSALS = {
    **dict.fromkeys(FULL, "no space left on the disk"),
    errno.EROFS: "on a read-only disk, expected one that can be written",
}


def mistake(error: BaseException) -> str | None:
    """Return the line that commands print for an error; None: it is a fault of the program.

    A refusal by the operating system is no fault of the program: a full or read-only disk, a
    missing permission, a name that is too long or that the locale cannot write.
    """
    if isinstance(error, UnicodeEncodeError):
        return (
            f"{error.object!a}: found characters that the encoding {error.encoding} of this "
            "locale lacks, expected a UTF-8 locale or PYTHONUTF8=1"
        )
    if isinstance(error, OSError) and error.strerror:
        file = "output" if error.filename is None else os.fsdecode(error.filename)
        return _on_one_line(f"{file}: {_REFUSALS.get(error.errno or 0, error.strerror)}")
    return _on_one_line(str(error)) if isinstance(error, PatchDMError) else None


def one_line(error: BaseException) -> str:
    """Return an error's message without line breaks, or its type if it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def _on_one_line(text: str) -> str:
    """Replace line breaks, which the name of a file may have; else keep the text."""
    return text if len(text.splitlines()) < 2 else " ".join(text.split())
