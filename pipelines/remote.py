"""`python -m pipelines.remote`: test that the default DVC remote can be written and read."""

from __future__ import annotations

import sys
from pathlib import Path

from dvc.repo import Repo

PROBE = b"patchdm"


def probe(root: Path) -> str:
    """Write a small file next to the remote's data, read it back, and return its folder's URL."""
    with Repo(str(root)) as repo:
        storage = repo.cloud.get_remote_odb()
        path = storage.fs.join(storage.path, "probe")
        storage.fs.makedirs(storage.path, exist_ok=True)
        storage.fs.pipe_file(path, PROBE)
        if storage.fs.cat_file(path) != PROBE:
            raise OSError(f"{path}: its content differs from what was written")
        return str(storage.fs.unstrip_protocol(storage.path))


if __name__ == "__main__":
    try:
        print(probe(Path.cwd()))  # noqa: T201 - a command
    except Exception as error:  # noqa: BLE001 - of any library below DVC
        text = str(error).partition("\n")[0]
        sys.exit(f"ERROR: no access to the default DVC remote: {type(error).__name__}: {text}")
