"""The `patchdm` command as a process: exit status, speed of its start, closed pipes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli import test_app as commands
from tests.conftest import REPO

repository = commands.repository


def test_as_a_command(repository: Path):
    def patchdm(*argv: str) -> subprocess.CompletedProcess[str]:
        program = "from patchdm.cli.app import main; main()"
        command = [sys.executable, "-c", program, *argv]
        return subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)

    assert patchdm("params", "check").returncode == 0
    failed = patchdm("params", "check", "nope.yaml")
    assert failed.returncode == 1
    assert failed.stderr == "error: nope.yaml: cannot be read: No such file or directory\n"
    assert failed.stdout == ""


REFUSED = [
    "sample --seeds 5 --out x",
    "sample --seeds 0:1 --out x --size 32",
    "sample --seeds 0:1 --out x.tif",
    "sample --seeds 0:1 --out x --steps 0",
    "sample --seeds 0:1 --out x --guidance -1",
    "sample --seeds 0:1 --out x --solver euler",
    "sample --seeds 0:1 --out x --tiling tiles",
    "sample --seeds 0:1 --out x --positions left",
    "sample --seeds 0:1 --out x --format jpeg",
    "sample nowhere --seeds 0:1 --out x",
    "inpaint params.yaml nowhere --out x.png",
    "inpaint params.yaml params.yaml --out x.jpg",
    "inpaint params.yaml params.yaml --out x.png --code x",
    "outpaint params.yaml --out x.png",
    "outpaint nowhere params.yaml --out x.png --left 1",
    "save nowhere out",
    "push presets someone/sea",
    "push nowhere sea",
    "params use nope",
    "plan nope",
    "plan nope.yaml",
    "fit nowhere --size 64x32 --hours 1",
    "fit params.yaml --size 64x32 --hours 1",
    "fit presets --size 64 --hours 1",
    "fit presets --size 64x32 --hours 0",
    "watch nowhere",
    "plan smoke --rate 0",
    "data verify",
    "data verify nowhere",
    "import-official nowhere out",
    "sample --unknown",
    "nope",
]


@pytest.mark.usefixtures("repository")
def test_help_and_refusals_load_nothing_heavy():
    """Which would take seconds."""
    helps = [f"{command} --help" for command in commands.COMMANDS]
    program = (
        "import sys\nfrom patchdm.cli.app import main\n"
        "for line in sys.argv[1:]:\n"
        "    try:\n        main(line.split())\n"
        "    except SystemExit as exit_:\n        assert exit_.code, line\n"
        "    else:\n        assert line.startswith('-') or '--help' in line, line\n"
        "    found = {'torch', 'numpy', 'diffusers', 'pandas', 'pyarrow'} & set(sys.modules)\n"
        "    assert not found, (line, found)\n"
    )
    command = [sys.executable, "-c", program, "--version", *helps, *REFUSED]
    environment = os.environ | {"PYTHONPATH": str(REPO)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (0, 2), done.stderr


@pytest.mark.parametrize("argv", [["params", "check"], ["sample", "--help"]], ids=" ".join)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_enough_is_no_error(repository: Path, argv: list[str], unbuffered: str):
    """As `patchdm params check | true`: nothing on standard error, the exit status of a SIGPIPE."""
    environment = {"PYTHONPATH": str(REPO), "PYTHONUNBUFFERED": unbuffered}
    with subprocess.Popen(
        [sys.executable, "-m", "patchdm", *argv],
        cwd=repository,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 128 + signal.SIGPIPE
