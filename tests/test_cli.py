"""The `patchdm` command, in a scratch repository with the real presets."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from patchdm.cli.app import COMMANDS, main
from patchdm.cli.options import INPAINT

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
    assert message == f"presets: no preset {name}, expected {', '.join(PRESETS)}"
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


@pytest.mark.parametrize(
    "argv",
    [
        ["inpaint", "M", "--out", "x.png", "I", "K"],
        ["inpaint", "--out=x.png", "M", "I", "--steps", "2", "K"],
        ["inpaint", "M", "I", "--st", "2", "K", "--out", "x.png"],
        ["inpaint", "M", "--out", "x.png", "--", "I", "K"],
    ],
    ids=" ".join,
)
def test_options_stand_anywhere(monkeypatch: pytest.MonkeyPatch, argv: list[str]):
    given = {}
    monkeypatch.setitem(COMMANDS, "inpaint", (lambda **all_: given.update(all_), INPAINT))
    main(argv)
    expected = {"model": "M", "image": "I", "mask": "K", "out": "x.png"}
    assert {name: str(given[name]) for name in expected} == expected


@pytest.mark.parametrize(
    "argv", [["inpaint", "M", "I", "K", "--out"], ["sample", "--out", "--grid", "M"]], ids=" ".join
)
def test_an_option_without_its_value_takes_no_other(argv: list[str], capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit):
        main(argv)
    assert "argument --out: expected one argument" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["é.yaml", b"\xff.yaml", "📷 [x].yaml"], ids=ascii)
@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_any_name_can_be_printed(repository: Path, name: str | bytes, encoding: str):
    path = os.fsdecode(name)
    shutil.copy(repository / "params.yaml", repository / path)
    done = subprocess.run(
        [sys.executable, "-m", "patchdm", "params", "check", path],
        cwd=repository,
        env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(REPO)},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b".yaml: ok (" in done.stdout


def test_a_read_only_disk_is_one_line(repository: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(path: Path, _data: bytes) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    expected = "params.yaml: on a read-only disk, expected one that can be written"
    assert refusal("params", "use", "smoke") == expected
    assert (repository / "params.yaml").exists()


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


def test_help_loads_nothing_heavy():
    program = (
        "import sys; from patchdm.cli.app import _parser; _parser().format_help(); "
        "print({'torch', 'numpy', 'pydantic', 'diffusers', 'pandas'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", program]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout == "set()\n"


def test_a_reader_that_has_enough_is_no_error(repository: Path):
    """As `patchdm params check | true`: nothing on standard error, the exit status of a SIGPIPE."""
    command = [sys.executable, "-c", "from patchdm.cli.app import main; main(['params', 'check'])"]
    with subprocess.Popen(
        command, cwd=repository, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 128 + signal.SIGPIPE
