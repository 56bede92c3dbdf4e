"""What the stages share."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from pathlib import Path

import pytest

from patchdm.errors import PatchDMError
from stages._common import git_revision, run_command
from tests.stages.models import write_params
from tests.stages.tiny import tiny_params


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


@pytest.fixture
def run(tmp_dir: Path):
    """Work in the folder of a run; return what a stage ends with that raises an error."""
    write_params(tmp_dir / "params.yaml", tiny_params())
    before = signal.getsignal(signal.SIGTERM)

    def ending(error: Exception) -> str:
        def stage(_params: object) -> None:
            raise error

        with pytest.raises(SystemExit) as ended:
            run_command("check", stage, [])
        return str(ended.value)

    yield ending
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.EROFS, "on a read-only disk, expected one that can be written"),
        (errno.EACCES, "Permission denied"),
        (errno.EPERM, "Operation not permitted"),
        (errno.ENOSPC, "no space left on the disk"),
        (errno.EDQUOT, "no space left on the disk"),
        (errno.ENAMETOOLONG, "File name too long"),
        (errno.EIO, "Input/output error"),
    ],
    ids=errno.errorcode.get,
)
def test_what_a_disk_refuses_is_one_line(run, number: int, says: str):
    assert run(OSError(number, os.strerror(number), ".state/x")) == f"error: .state/x: {says}"
    assert run(OSError(number, os.strerror(number))) == f"error: output: {says}"


def test_mistakes_are_one_line_and_faults_of_the_program_are_not(run):
    assert run(PatchDMError("a\nb.jpg: found nothing")) == "error: a b.jpg: found nothing"
    no_ascii = UnicodeEncodeError("ascii", "é.jpg", 0, 1, "ordinal not in range(128)")
    assert run(no_ascii).startswith("error: '\\xe9.jpg': found characters that the encoding ascii")
    with pytest.raises(ConnectionError):
        run(ConnectionError("no number: of a library"))
