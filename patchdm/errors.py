"""The one exception a user is meant to read, and the one line that commands print."""

from __future__ import annotations

import errno
import os


class PatchDMError(Exception):
    """A mistake the user can mend.

    The message is one line that names the file or key, what was found and what is expected.
    Commands print it alone, without a traceback.
    """


MISTAKES = (PatchDMError, OSError, UnicodeEncodeError)
"""What `mistake` may have a line for."""

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Numbers of the errors of a full disk, or of a quota that is used up."""

_REFUSALS = {
    **dict.fromkeys(FULL, "no space left on the disk"),
    errno.EROFS: "on a read-only disk, expected one that can be written",
}


def mistake(error: BaseException) -> str | None:
    """Return the line that commands print of an error; None: it is a fault of the program.

    What the operating system refuses is no fault of the program: a full or read-only disk, a
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
    """Return what an error says, without line breaks; its kind, if it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def _on_one_line(text: str) -> str:
    """Return a text as it is, but for line breaks, which the name of a file may have."""
    return text if len(text.splitlines()) < 2 else " ".join(text.split())
