"""`patchdm app` as a process of its own: started, asked, stopped."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def model_of_studio(
    command: Sequence[str | Path], folder: Path, environment: Mapping[str, str]
) -> dict[str, Any]:
    """Start a studio in a folder, ask it for its model, and end it by Ctrl-C; return the answer.

    Args:
        command: `patchdm`, however it is called; its arguments are added.
        folder: where it works.
        environment: in which it does.
    """
    arguments = [*command, "app", "--port", "0", "--no-browser"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(arguments, cwd=folder, env=dict(environment), **pipes) as process:
        said = []
        for line in process.stdout:
            said.append(line)
            if found := re.match("studio: (http://127.0.0.1:[0-9]+/)", line):
                break
        else:
            raise AssertionError("".join(said))
        with urllib.request.urlopen(f"{found[1]}api/model", timeout=60) as answer:
            model = json.load(answer)
        os.kill(process.pid, signal.SIGINT)
        process.communicate(timeout=60)
    assert isinstance(model, dict)
    return model
