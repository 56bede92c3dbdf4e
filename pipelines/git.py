"""Git commands whose refusals are one line."""

from __future__ import annotations

import subprocess
from pathlib import Path

from pipelines.errors import FlowError


def git(root: Path, *arguments: str) -> str:
    """Run Git in a folder and return its output; raise a FlowError with its reason if it fails."""
    command = ["git", *arguments]
    try:
        done = subprocess.run(  # noqa: S603 - fixed
            command, cwd=root, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        text = getattr(error, "stderr", None) or str(error)
        raise FlowError(f"{root}: git: {text.strip().splitlines()[0]}") from None
    return done.stdout
