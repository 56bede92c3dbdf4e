"""What the stages share."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from stages._common import git_revision


@pytest.mark.usefixtures("tmp_dir")
def test_a_run_does_not_change_the_revision_of_its_code(monkeypatch: pytest.MonkeyPatch):
    for name in ("params.yaml", "dvc.lock", "code.py"):
        Path(name).write_text("1")
    for command in (["init"], ["add", "."], ["commit", "-m", "start"]):
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        subprocess.run(["git", *identity, *command], check=True, capture_output=True)
    clean = git_revision()
    Path("params.yaml").write_text("2")
    Path("dvc.lock").write_text("2")
    Path("cell").mkdir()
    monkeypatch.chdir("cell")  # a cell of the ablation runs its stages below the repository
    assert git_revision() == clean
    Path("../code.py").write_text("2")
    assert git_revision() == f"{clean}-dirty"
