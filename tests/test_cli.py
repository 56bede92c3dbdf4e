"""The `patchdm` command, in a scratch repository with the real presets."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from patchdm.cli import main

REPO = Path(__file__).parents[1]
PRESETS = sorted(path.stem for path in (REPO / "presets").glob("*.yaml"))


@pytest.fixture
def repository(tmp_dir: Path) -> Path:
    """Work in a folder with params.yaml and presets/ alone."""
    shutil.copy(REPO / "params.yaml", tmp_dir)
    shutil.copytree(REPO / "presets", tmp_dir / "presets")
    return tmp_dir


def refusal(*argv: str) -> str:
    """Return the message with which the command exits."""
    with pytest.raises(SystemExit) as exit_:
        main(argv)
    message = str(exit_.value)
    assert message.startswith("error: ")
    assert "\n" not in message
    return message.removeprefix("error: ")


@pytest.mark.usefixtures("repository")
def test_check_says_what_the_run_is(capsys: pytest.CaptureFixture[str]):
    main(["params", "check", "presets/smoke.yaml"])
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("presets/smoke.yaml: ok (32x16 pixels, 4x2 patches of 8, hash ")


def test_check_takes_params_yaml_by_default(repository: Path, capsys: pytest.CaptureFixture[str]):
    main(["params", "check"])
    assert capsys.readouterr().out.startswith("params.yaml: ok (")
    (repository / "params.yaml").write_text("base: {seed: 0}\n")
    assert refusal("params", "check").startswith("params.yaml: base.threads: missing")


@pytest.mark.parametrize("name", PRESETS)
def test_use_writes_the_preset(repository: Path, name: str):
    (repository / "params.yaml").unlink()
    main(["params", "use", name])
    written = (repository / "params.yaml").read_bytes()
    assert written == (repository / f"presets/{name}.yaml").read_bytes()


@pytest.mark.parametrize("name", ["nope", "../params", "demo.yaml", ""])
def test_unknown_preset_lists_the_known(repository: Path, name: str):
    before = (repository / "params.yaml").read_bytes()
    message = refusal("params", "use", name)
    assert message == f"presets: no preset {name}, allowed are {', '.join(PRESETS)}"
    assert (repository / "params.yaml").read_bytes() == before


def test_broken_preset_is_not_used(repository: Path):
    before = (repository / "params.yaml").read_bytes()
    (repository / "presets/broken.yaml").write_text("base: {}\n")
    assert refusal("params", "use", "broken").startswith("presets/broken.yaml: base.seed: missing")
    assert (repository / "params.yaml").read_bytes() == before


def test_outside_a_repository(tmp_dir: Path):
    assert refusal("params", "use", "demo").startswith(f"presets: no presets in {tmp_dir}")
    assert refusal("params", "check") == "params.yaml: cannot be read: No such file or directory"


def test_full_disk_leaves_the_old_params(repository: Path, monkeypatch: pytest.MonkeyPatch):
    def full(path: Path, _data: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    before = (repository / "params.yaml").read_bytes()
    monkeypatch.setattr(Path, "write_bytes", full)
    assert refusal("params", "use", "smoke") == "params.yaml: no space left on the disk"
    assert (repository / "params.yaml").read_bytes() == before
    assert not (repository / ".params.yaml.partial").exists()


@pytest.mark.parametrize("argv", [[], ["params"], ["nope"], ["params", "use"]])
def test_misuse_exits_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as exit_:
        main(argv)
    assert exit_.value.code == 2
    assert "usage: patchdm" in capsys.readouterr().err


def test_as_a_command(repository: Path):
    def patchdm(*argv: str) -> subprocess.CompletedProcess[str]:
        program = "from patchdm.cli import main; main()"
        command = [sys.executable, "-c", program, *argv]
        return subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)

    assert patchdm("params", "check").returncode == 0
    failed = patchdm("params", "check", "nope.yaml")
    assert failed.returncode == 1
    assert failed.stderr == "error: nope.yaml: cannot be read: No such file or directory\n"
    assert failed.stdout == ""


def test_help_loads_nothing_heavy():
    program = (
        "import sys; from patchdm.cli import _parser; _parser().format_help(); "
        "print({'torch', 'numpy', 'pydantic', 'diffusers', 'pandas'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", program]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout == "set()\n"


def test_a_reader_that_has_enough_is_no_error(repository: Path):
    """As `patchdm params check | true`: nothing on standard error, the exit status of a SIGPIPE."""
    command = [sys.executable, "-c", "from patchdm.cli import main; main(['params', 'check'])"]
    with subprocess.Popen(
        command, cwd=repository, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 128 + signal.SIGPIPE
