"""A run in a folder of its own, which `patchdm fit` has made the params.yaml of.

`python -m pipelines.fitted lay-out FOLDER` clones the repository of this folder to another
one, with the params.yaml that is read from standard input. `python -m pipelines.fitted repro
FOLDER` runs `dvc repro` there.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pipelines.command import ending_in_one_line
from pipelines.errors import FlowError
from pipelines.workspace import lay_out


def main(argv: list[str]) -> None:
    """Do one of the two; a mistake prints one line."""
    with ending_in_one_line():
        match argv:
            case ["lay-out", folder]:
                place = Path(folder)
                if place.is_dir():
                    place.rmdir()  # it is empty, or this is refused
                lay_out(Path.cwd(), place, sys.stdin.read())
            case ["repro", folder]:
                repro(Path(folder))
            case _:
                raise FlowError(f"found {argv}, expected lay-out or repro, and a folder")


def repro(folder: Path) -> None:
    """Become `dvc repro` in a folder, whose stages call `python`: this one."""
    os.chdir(folder)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    command = [sys.executable, "-m", "dvc", "repro"]
    os.execve(sys.executable, command, os.environ | {"PATH": path})  # noqa: S606 - our own module


if __name__ == "__main__":
    main(sys.argv[1:])
