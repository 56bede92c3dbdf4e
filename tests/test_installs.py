"""Small installs: what the library alone imports, and what is said where an extra is missing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from patchdm.cli.app import app
from patchdm.cli.extras import MODULES
from tests.cli import conftest as commands
from tests.conftest import REPO
from tests.test_dependencies import DECLARED, EXTRAS, normal

folders, work = commands.folders, commands.work

PROGRAM = """
import sys
from tests.absent import without
without(sys.argv.pop(1).split(","))
"""
COMMAND = PROGRAM + "from patchdm.cli.app import main\nmain()"
COMMANDS = (
    PROGRAM + "from patchdm.cli.app import main\nfor command in sys.argv[1:]: main(command.split())"
)


def installed_with(names: set[str]) -> set[str]:
    """Return distributions and all that they require, without extras, as on this machine."""
    found: set[str] = set()
    todo = {(name, "") for name in names}
    while todo:
        name, extra = todo.pop()
        found.add(name)
        for text in requires(name) or []:
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                others = {(normal(needed.name), each) for each in needed.extras or {""}}
                todo |= {each for each in others if each[0] not in found}
    return found


def others(*extras: str) -> str:
    """Return the modules that an install without other extras does not have, by commas."""
    there = installed_with(DECLARED.union(*(EXTRAS[extra] for extra in extras)))
    there |= {"patchdm", "pip", "setuptools"}
    owners = packages_distributions().items()
    absent = {module for module, names in owners if not there & {normal(each) for each in names}}
    return ",".join(sorted(absent - {"tests"}))


LIBRARY = others()


def run(program: str, *arguments: str, absent: str = LIBRARY) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(REPO)}
    command = [sys.executable, "-c", program, absent, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_extras_are_absent():
    for extra in ("pipeline", "app", "large", "heif", "s3", "dask", "ray"):
        own = EXTRAS[extra] - installed_with(DECLARED) - {"patchdm"}
        modules = {
            module
            for module, names in packages_distributions().items()
            if own & {normal(name) for name in names}
        } - {"tests"}  # torch-fidelity has one, too
        assert modules
        assert not modules - set(LIBRARY.split(","))
    done = run(PROGRAM + "import fastapi")
    assert done.stderr.endswith("ModuleNotFoundError: No module named 'fastapi'\n")


@pytest.mark.parametrize("module", ["pipeline", "hub", "cli.verify"])
def test_the_library_imports_nothing_of_an_extra(module: str):
    done = run(PROGRAM + f"import patchdm.{module}")
    assert done.returncode == 0, done.stderr


def test_the_pipeline_starts_without_what_it_does_not_need():
    """Tables and params: a tenth of the seconds of its start, and 76 MiB."""
    done = run("import sys, patchdm.pipeline; print({'pandas', 'pydantic'} & set(sys.modules))")
    assert done.stdout == "set()\n", done.stderr


def test_help_needs_no_extra():
    names = [command.name or command.callback.__name__ for command in app.registered_commands]
    names = [name.replace("_", "-") for name in names]
    assert {"sample", "app", "import-official"} <= set(names)
    program = PROGRAM + (
        "from patchdm.cli.app import main\n"
        "for command in ['', *sys.argv[1:]]:\n"
        "    try: main([*command.split(), '--help'])\n"
        "    except SystemExit as end: assert not end.code, end.code\n"
    )
    done = run(program, *names, "plan", "params", "params use", "params check", "data verify")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Usage: ") == 6 + len(names)


def test_the_library_alone_is_enough(work: Path):
    done = run(
        COMMANDS,
        "sample pipe --seeds 0:2 --steps 2 --out samples --grid",
        "inpaint pipe photo.png mask.png --steps 2 --out whole.png",
        "outpaint pipe photo.png --right 8 --steps 2 --out wider.png",
        "panorama pipe --seeds 0:2 --size 48x16 --steps 2 --out wide.png",
        "save run/data/models saved",
        "params check run/params.yaml",
    )
    assert done.returncode == 0, done.stderr
    made = ("samples/grid.png", "whole.png", "wider.png", "wide.png", "saved/README.md")
    assert [name for name in made if not (work / name).is_file()] == []


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("app pipe --no-browser", "app"),
        ("panorama pipe --seeds 0:2 --size 48x16 --steps 2 --out out.tif", "large"),
        ("plan demo", "pipeline"),
    ],
    ids=lambda text: text.partition(" ")[0],
)
def test_what_is_missing_is_told_in_one_line(work: Path, command: str, extra: str):
    (work / "presets").symlink_to(REPO / "presets")
    done = run(COMMAND, *command.split())
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert re.match(rf"error: .* `pip install 'patchdm\[{extra}\]'`$", last), done.stderr
    assert "Traceback" not in done.stderr


def test_the_studio_needs_its_extra_alone(work: Path):
    (work / "out").mkdir()
    (work / "out/.lock").mkdir()  # which it refuses, once all is imported
    done = run(
        COMMAND,
        *["app", "pipe", "--no-browser", "--port", "0", "--out", "out"],
        absent=others("app"),
    )
    assert done.stderr.splitlines()[-1] == "error: out/.lock: Is a directory"


def test_curves_of_a_training_need_an_extra_that_the_studio_lacks():
    program = PROGRAM + "from patchdm.app.training import can_draw\nprint(can_draw())"
    assert run(program, absent=others("app")).stdout == "False\n"
    program = PROGRAM + (
        "from patchdm.app.training import can_draw\nimport patchdm.report.live\nprint(can_draw())"
    )
    drawing = {
        module
        for module, names in packages_distributions().items()
        if {normal(each) for each in names} & installed_with({"matplotlib"})
    }
    absent = ",".join(sorted({*others("app").split(",")} - drawing))
    assert run(program, absent=absent).stdout == "True\n"


def test_extras_have_their_modules():
    distributions = packages_distributions()
    for extra, modules in MODULES.items():
        for module in modules:
            names = {normal(name) for name in distributions[module]}
            assert names & (EXTRAS[extra] - DECLARED)
