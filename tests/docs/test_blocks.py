"""Every command and Python block of README and docs is run, or a list says why not."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from ruamel.yaml import YAML

from patchdm.cli.app import app, main
from patchdm.config import Params
from patchdm.saved import BUNDLED
from tests.docs.blocks import Block, blocks
from tests.photographs import BUNDLED as PHOTOGRAPHS

NOT_RUN = {
    "it installs this environment": (
        r"make install|source \.venv/bin/activate|pip install .*|pre-commit install"
    ),
    "minutes to hours; test_smoke.py runs the whole pipeline": (
        r"make (demo|study|paper) ?.*|dvc repro|patchdm params use demo"
    ),
    "until a training ends; cli/test_watch.py has one": r"patchdm watch .*",
    "the reader's own files": r"(cd runs|patchdm fit)[ /].*",
    "network: the hub; cli/test_hub.py has one": r"patchdm (sample OWNER/NAME|push) .*",
    "network: git and remotes; pipelines/test_remotes.py has both": (
        r"make remote .*|dvc (push|pull|repro --pull).*|git .*|cd patchdm"
    ),
    "services that stay; pipelines/ tests all": (
        r"make (server|serve)|export (PREFECT|RAY)_.*|prefect .*|dask .*|ray .*|"
        r"python -m pipelines\..*"
    ),
    "GPUs; stages/test_processes.py trains in two processes": r"(accelerate launch|torchrun) .*",
    "17 minutes and 3.6 GB; cli/test_panorama.py makes small ones": (
        r"patchdm panorama .*--size 16384x4096.*"
    ),
}
"""Reason -> the commands that no test runs as they stand."""
STUDIO = r"patchdm app.*|(\w+=\$\()?curl .*|studio=.*"
"""What test_the_studio_answers runs."""

CONSOLES = list(blocks("console"))
PIECES = [piece for block in CONSOLES for piece in block.pieces]
OURS = [tuple(shlex.split(piece)[1:]) for piece in dict.fromkeys(PIECES) if piece[:8] == "patchdm "]
RUN = [
    argv
    for argv in OURS
    if not any(re.fullmatch(why, shlex.join(["patchdm", *argv])) for why in NOT_RUN.values())
    and argv[0] != "app"
]
SOON = ("sample", "panorama", "inpaint", "outpaint", "save", "params")
ONE_OF_EACH = [next(argv for argv in RUN if argv[0] == name) for name in SOON]
PYTHON = sorted({block.file for block in blocks("python")})


@pytest.mark.parametrize("block", CONSOLES, ids=str)
def test_each_command_is_run_or_a_list_says_why_not(block: Block):
    for piece in block.pieces:
        reasons = [why for why, what in NOT_RUN.items() if re.fullmatch(what, piece)]
        run = re.match(f"patchdm |{STUDIO}", piece) is not None
        assert len(reasons) == 1 or (run and not reasons), piece


def test_the_list_has_no_more_than_is_needed():
    for pattern in NOT_RUN.values():
        for one in re.split(r"\|(?![^(]*\))", pattern):
            assert any(re.fullmatch(one, piece) for piece in PIECES), one


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("argv", OURS, ids=shlex.join)
def test_commands_are_read(argv: tuple[str, ...]):
    make_first(argv)
    command, rest = typer.main.get_command(app), [os.path.expanduser(each) for each in argv]  # noqa: PTH111
    while inner := getattr(command, "commands", None):
        command = inner[rest.pop(0)]
    command.make_context("patchdm", rest)


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("argv", ONE_OF_EACH, ids=shlex.join)
def test_commands_work(argv: tuple[str, ...]):
    make_first(argv)
    main(hurried(argv, quick=True))


@pytest.mark.slow
@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("argv", RUN, ids=shlex.join)
def test_all_commands_work(argv: tuple[str, ...]):
    make_first(argv)
    main(hurried(argv))


def make_first(argv: tuple[str, ...]) -> None:
    """Make the image, or the run, that a command takes from an earlier one."""
    if any(each.startswith("runs/sea") for each in argv):
        Path("runs").mkdir()
        Path("runs/sea").symlink_to(Path.cwd())
    if "first/000000/000000.png" in argv:
        main(hurried(("sample", "--seeds", "0:1", "--out", "first"), quick=True))


def hurried(argv: tuple[str, ...], *, quick: bool = False) -> list[str]:
    """Return a command with one step and two seeds, on the model that is here.

    A quick one makes small images, whose codes are not fitted.
    """
    found = ["data/models" if each == "MODEL" else each for each in argv]
    if argv[0] not in ("sample", "panorama", "inpaint", "outpaint"):
        return found
    changed = {"--steps": "1"}
    if "--seeds" in argv and "--codes" not in argv:
        changed["--seeds"] = "0:2"
    if argv[0] in ("inpaint", "outpaint"):
        changed["--resamplings"] = "1"
    if quick:
        small = {"--size": "128x64", "--right": "32"}
        changed |= {name: value for name, value in small.items() if name in argv}
        changed |= {"--code": "latent"} if "--resamplings" in changed else {}
    for name, value in changed.items():
        if name in found:
            found[found.index(name) + 1] = value
        else:
            found += [name, value]
    return found


@pytest.mark.usefixtures("reader", "hasty")
@pytest.mark.parametrize("file", PYTHON, ids=str)
def test_python_works(file: Path):
    run(file)


@pytest.mark.slow
@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("file", PYTHON, ids=str)
def test_python_works_in_all_steps(file: Path):
    run(file)


def run(file: Path) -> None:
    """Run the blocks of a file one after the other, with a model where OWNER/NAME stands."""
    names: dict[str, object] = {"__name__": "__main__"}
    for block in (each for each in blocks("python") if each.file == file):
        source = block.text.replace('"OWNER/NAME"', repr(str(BUNDLED)))
        exec(compile("\n" * (block.line - 1) + source, str(file), "exec"), names)


@pytest.mark.parametrize("block", list(blocks("yaml")), ids=str)
def test_keys_of_params_exist(block: Block):
    values = YAML(typ="safe", pure=True).load(block.text)
    sections = {name: found for name, found in values.items() if name in Params.model_fields}
    assert sections or "compute_environment" in values  # accelerate's
    for name, found in sections.items():
        kind = Params.model_fields[name].annotation
        assert kind is not None
        assert found.keys() <= kind.model_fields.keys(), name


@pytest.mark.slow
def test_the_studio_answers(reader: Path):
    """Run the blocks of curl as they stand, one after the other, on the command's server."""
    out = reader / "kept"
    command = [sys.executable, "-m", "patchdm", "app", "--port", "0", "--no-browser"]
    server = subprocess.Popen(
        [*command, "--out", str(out), "--photographs", str(PHOTOGRAPHS)],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    try:
        assert server.stderr is not None
        told = (re.search(r"studio: (\S+)/$", line) for line in server.stderr)
        url = next(found[1] for found in told if found)
        text = "\n".join(each.text for each in blocks("console") if "curl" in each.text)
        script = re.sub("http://127.0.0.1:8765", url, text)
        command = ["bash", "-euo", "pipefail", "-c", script]
        done = subprocess.run(command, cwd=reader, capture_output=True, text=True, check=False)
    finally:
        server.terminate()
        server.wait(30)
    assert done.returncode == 0, done.stderr
    assert '{"error"' not in done.stdout
    assert (reader / "0.png").read_bytes().startswith(b"\x89PNG")
