"""`python tools/relocate.py`: make .venv work in this folder, wherever it was made.

The scripts that pip writes name their Python by its path, as the line for `import patchdm` and
`activate` name this folder. After a move they would start the old one, or nothing; and no script
starts from a path with quotes or dollars. Afterwards scripts and imports start from where they lie.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# As a shell script it starts the Python next to it; to Python it is a string.
_START = b"""\
#!/bin/sh
'''exec' "$(dirname -- "$(realpath -- "$0")")/python" "$0" "$@"
' '''
"""
_OF_PIP = re.compile(rb"\A#!/.*/bin/python[\d.]*\n|\A#!/bin/sh\n'''exec' .*\n' '''\n")


def relocate(root: Path) -> None:
    """Make `.venv` in a repository's root independent of where the root is."""
    folder = root / ".venv"
    builder = venv.EnvBuilder()
    builder.setup_scripts(builder.ensure_directories(str(folder)))
    activate = folder / "bin/activate"  # which Pythons before 3.11.11 do not quote well
    quoted = os.fsencode(shlex.quote(str(folder)))
    content = activate.read_bytes()
    _replace(activate, content, content.replace(b'"%b"' % os.fsencode(folder), quoted))
    for script in sorted((folder / "bin").iterdir()):
        if script.is_file() and not script.is_symlink():
            content = script.read_bytes()
            _replace(script, content, _OF_PIP.sub(lambda _: _START, content, count=1))
    for path in folder.glob("lib/python*/site-packages/__editable__.patchdm-*.pth"):
        line = f"{os.path.relpath(root, path.parent)}\n"  # which Python reads as from its folder
        _replace(path, path.read_bytes(), line.encode())


def _replace(file: Path, old: bytes, new: bytes) -> None:
    """Write a file at once: other processes may be starting it."""
    if new == old:
        return
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    fresh.write_bytes(new)
    shutil.copymode(file, fresh)
    fresh.replace(file)


if __name__ == "__main__":
    relocate(ROOT)
