"""The `patchdm` command, in a scratch repository with the real presets."""

from __future__ import annotations

import errno
import importlib.metadata
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from patchdm.cli import restore
from patchdm.cli.app import main
from tests.cli.runs import refusal
from tests.conftest import REPO

PRESETS = sorted(path.stem for path in (REPO / "presets").glob("*.yaml"))


@pytest.fixture
def repository(tmp_dir: Path) -> Path:
    """Work in a folder with params.yaml and presets/ alone."""
    shutil.copy(REPO / "params.yaml", tmp_dir)
    shutil.copytree(REPO / "presets", tmp_dir / "presets")
    return tmp_dir


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


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ([], "Missing command; see `patchdm --help`"),
        (["params"], "Missing command; see `patchdm params --help`"),
        (["inpain"], "No such command 'inpain'. Did you mean 'inpaint', "),
        (["params", "use"], "Missing argument 'name'; see `patchdm params use --help`"),
        (["inpaint", "I"], "Missing argument 'image'; see `patchdm inpaint --help`"),
        (["sample", "--out", "x"], "Missing option '--seeds'; see `patchdm sample --help`"),
        (["sample", "--seeds"], "Option '--seeds' requires an argument; see `patchdm --help`"),
        (["params", "check", "a", "b\nc"], "Got unexpected extra argument(s) (b"),
        (["sample", "--grid=3"], "Option '--grid' does not take a value; see `patchdm --help`"),
        (["outpaint", "--bot", "3"], "No such option: --bot (Possible options: --bottom, --"),
        (
            ["sample", "--stpes", "3"],
            "No such option: --stpes (Possible options: --seeds, --size, ",
        ),
    ],
    ids=str,
)
def test_misuse_is_one_line_and_exits_with_2(
    argv: list[str], line: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as exit_:
        main(argv)
    assert exit_.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith(f"error: {line}")


@pytest.mark.parametrize(
    "argv",
    [
        ["M", "--out", "x.png", "I", "K"],
        ["--out=x.png", "M", "I", "--steps", "2", "K"],
        ["M", "I", "--steps", "2", "K", "--out", "x.png"],
        ["M", "--out", "x.png", "--", "I", "K"],
        ["I", "--out", "x.png", "K"],
    ],
    ids=" ".join,
)
def test_options_stand_anywhere(tmp_dir: Path, monkeypatch: pytest.MonkeyPatch, argv: list[str]):
    for name in ("M/patchdm", "data/models/patchdm", "I", "K"):
        (tmp_dir / name).mkdir(parents=True)
    calls = []
    monkeypatch.setattr(restore, "masked", lambda image, mask: (image, mask))
    monkeypatch.setattr(
        restore, "restore", lambda *all_, **named: calls.append((all_, named)) or []
    )
    main(["inpaint", *argv])
    model = Path("M" if "M" in argv else "data/models")
    options = {"num_inference_steps": 2} if "--steps" in argv else {}
    del calls[0][1]["tell"], calls[0][1]["show_fit"]
    assert calls == [((model, (Path("I"), Path("K")), {0: Path("x.png")}), options)]


def test_an_option_without_its_value_takes_no_other():
    assert refusal("sample", "--out", "--grid", "M") == (
        "--out: found --grid, expected a path without a leading -"
    )
    assert refusal("sample", "--seeds", "--grid", "M").startswith("--seeds: found --grid, expected")


def test_a_second_model_is_refused(tmp_dir: Path):
    (tmp_dir / "I").touch()
    for argv in (
        ["sample", "M", "N", "--seeds", "0:1", "--out", "x"],
        ["outpaint", "M", "N", "I", "--left", "1", "--out", "x.png"],
    ):
        message = refusal(*argv)
        assert message == "model: found M and N, expected one folder"


def test_ctrl_c_exits_as_a_shell_expects(monkeypatch: pytest.MonkeyPatch):
    def interrupted(_path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("patchdm.cli.runs.load_params", interrupted)
    with pytest.raises(SystemExit) as exit_:
        main(["params", "check"])
    assert exit_.value.code == 128 + signal.SIGINT


COMMANDS = {
    "": "--version --install-completion --show-completion",
    "params use": "",
    "params check": "",
    "plan": "--rate --here --transfer --extraction",
    "fit": "--size --hours --out --run",
    "watch": "--every",
    "import-official": "",
    "app": "--out --host --port --name --no-browser --photographs --device",
    "data verify": "",
    "save": "--half --license",
    "push": "--private --revision --license",
    "sample": "--seeds --out --size --solver --batch --format --shard-size --grid --code-seed "
    "--compile --device --steps --guidance --mixed-precision --tiling --positions --rows-per-chunk",
    "panorama": "--size --out --seeds --image --strength --codes --wrap --solver --viewer --force "
    "--device --steps --guidance --mixed-precision --tiling --positions --rows-per-chunk",
    "inpaint": "--seeds --out --device --steps --guidance --mixed-precision --tiling --positions "
    "--rows-per-chunk --code --resamplings --blend-width --native",
    "outpaint": "--seeds --out --device --steps --guidance --mixed-precision --tiling --positions "
    "--rows-per-chunk --code --resamplings --blend-width --left --top --right --bottom --native",
}
"""Commands -> their options, which scripts rely on."""


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_every_option(command: str, capsys: pytest.CaptureFixture[str]):
    main([*command.split(), "--help"])
    text = capsys.readouterr().out
    assert text.startswith(f"Usage: patchdm {command}".rstrip())
    assert set(re.findall(r"^  (?:-h, )?(--[\w-]+)", text, re.MULTILINE)) == {
        "--help", *COMMANDS[command].split()
    }  # fmt: skip


def test_help_shows_defaults(capsys: pytest.CaptureFixture[str]):
    main(["sample", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for shown in (
        "default: data/models",
        "--batch N images denoised together [default: 8]",
        "--format png|webdataset PNG or tar files [default: png]",
        "--seeds FIRST:END one image each; 0:16 are the seeds 0 to 15 [required]",
        "--tiling shifted|blend",
    ):
        assert shown in text


def test_version(capsys: pytest.CaptureFixture[str]):
    main(["--version"])
    assert capsys.readouterr().out == f"patchdm {importlib.metadata.version('patchdm')}\n"


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("patchdm out", ["outpaint"]),
        ("patchdm sample --til", ["--tiling"]),
        ("patchdm sample --solver d", ["ddim", "dpm-solver++"]),
    ],
)
def test_shells_complete(typed: str, expected: list[str]):
    completing = {
        "_PATCHDM_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(typed.split()) - 1),
    }
    command = [sys.executable, "-m", "patchdm"]
    done = subprocess.run(
        command, env=os.environ | completing, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == expected


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
