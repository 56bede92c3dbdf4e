"""A DVC repository whose stages are shell commands: the engine's graph, without the wait."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.conftest import REPO

STAGES = """\
stages:
  a:
    cmd: echo begin a >> log; cat params.yaml > a.txt; echo end a >> log
    params: [x]
    outs: [a.txt]
  b:
    matrix: {v: [one, two]}
    cmd: echo begin b-${item.v} >> log; sleep 2; cat a.txt > b-${item.v}.txt; echo end b >> log
    deps: [a.txt]
    outs: ["b-${item.v}.txt"]
  c:
    cmd: >-
      mkdir tables tables/sheets; touch tables/sheets/8.png;
      printf 'n,fid\\n8,1.5\\n' > tables/t.csv; echo '# T' > tables/u.md;
      echo '{"fid":1.5,"n":{"a":8}}' > c.json
    deps: [b-one.txt, b-two.txt]
    metrics: [c.json]
    outs: [tables]
"""


def make(folder: Path, stages: str = STAGES, params: str = "x: 1\n") -> Path:
    """Make a repository with one commit."""
    folder.mkdir(parents=True)
    (folder / "dvc.yaml").write_text(stages)
    (folder / "params.yaml").write_text(params)
    (folder / "prefect.toml").write_bytes((REPO / "prefect.toml").read_bytes())
    run(folder, "git", "init", "-q")
    run(folder, "dvc", "init", "-q")
    commit(folder)
    return folder


def commit(folder: Path) -> None:
    """Commit all files."""
    run(folder, "git", "add", "-A")
    author = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    run(folder, "git", *author, "commit", "-qm", "toy")


def run(folder: Path, *command: str, env: dict[str, str] | None = None) -> str:
    """Run a command of the environment in a folder; return its output."""
    done = subprocess.run(
        command, cwd=folder, env=env or environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def environment(**extra: str) -> dict[str, str]:
    """Return the environment of a user who has activated ours."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ours = {"PATH": path, "PYTHONPATH": str(REPO), "DVC_NO_ANALYTICS": "1"}
    return os.environ | ours | extra


def lock(folder: Path) -> dict[str, Any]:
    """Return dvc.lock as parsed YAML."""
    return YAML(typ="safe").load(folder / "dvc.lock")
