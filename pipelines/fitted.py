"""A run in a folder of its own, which `patchdm fit` has made the params.yaml of.

`python -m pipelines.fitted lay-out FOLDER` makes FOLDER a repository with the stages, and the
params.yaml that is read from standard input: a clone of this folder's repository, or a new one of
what a wheel brings. `python -m pipelines.fitted repro FOLDER` runs `dvc repro` there.
"""

from __future__ import annotations

import os
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import patchdm
import pipelines
import stages
from patchdm.files import replacing
from pipelines.command import ending_in_one_line
from pipelines.errors import FlowError
from pipelines.git import git
from pipelines.workspace import PARAMS, lay_out

PACKAGES = (patchdm, pipelines, stages)
_AUTHOR = ("-c", "user.name=patchdm", "-c", "user.email=patchdm@localhost")


def main(argv: list[str]) -> None:
    """Do one of the two; a mistake prints one line."""
    with ending_in_one_line():
        match argv:
            case ["lay-out", folder]:
                root, place, params = Path.cwd(), Path(folder), sys.stdin.read()
                if place.is_dir():
                    place.rmdir()  # it is empty, or this is refused
                make = lay_out if (root / ".git").exists() else begin
                make(root, place, params)
            case ["repro", folder]:
                repro(Path(folder))
            case _:
                raise FlowError(f"found {argv}, expected lay-out or repro, and a folder")


def begin(root: Path, folder: Path, params: str) -> None:
    """Make a folder a new repository of installed packages, and of the files that belong to them.

    Args:
        root: what the wheel brings beside the packages: dvc.yaml, presets, configuration of DVC.
        folder: the repository, which does not exist yet.
        params: text of its params.yaml.

    Raises:
        FlowError: it is a copy of the repository without its history, or Git refuses.
    """
    if (root / patchdm.__name__).exists():
        raise FlowError(f"{root}: found no .git, expected a clone of the repository")
    with replacing(folder) as fresh:
        shutil.copytree(root, fresh)
        for package in PACKAGES:
            (source,) = package.__path__
            shutil.copytree(
                source, fresh / package.__name__, ignore=shutil.ignore_patterns("__pycache__")
            )
        (fresh / PARAMS).write_text(params, encoding="utf-8")
        git(fresh, "init", "--quiet")
        git(fresh, "add", "--all")
        git(fresh, *_AUTHOR, "commit", "--quiet", "--message", f"Patch-DM {version('patchdm')}")


def repro(folder: Path) -> None:
    """Become `dvc repro` in a folder, whose stages call `python`: this one."""
    os.chdir(folder)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    command = [sys.executable, "-m", "dvc", "repro"]
    os.execve(sys.executable, command, os.environ | {"PATH": path})  # noqa: S606 - our own module


if __name__ == "__main__":
    main(sys.argv[1:])
