"""Imports point one way: pipelines -> stages (as commands) -> patchdm."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests import imports
from tests.imports import REPO, STAGES

LIBRARY = sorted(path.relative_to(REPO) for path in REPO.glob("patchdm/**/*.py"))
CLI = {Path("patchdm/cli/app.py"), Path("patchdm/cli/runs.py")}
OPTIONS = Path("patchdm/cli/options.py")
CONSOLE = Path("patchdm/console.py")
TUNING = {Path("patchdm/__init__.py"), Path("patchdm/memory.py")}
"""They tell libraries below torch how to work, unless the environment does."""
ABOVE_THE_LIBRARY = {"stages", "pipelines", "tests", "dvc", "dvclive", "prefect"}
COMMAND_LINES = {"argparse", "click", "typer", "optparse", "getopt"}
TERMINAL = {"patchdm.console", "rich", "rich.console", "rich.progress"}
ENVIRONMENT = {"os.environ", "os.getenv", "os.environb", "os.putenv"}
CELLS = {Path(f"stages/ablate_{what}.py") for what in ("train", "evaluate", "sample")}
"""Stages that call other stages: a cell of the ablation is one more run, so what trains, samples
and measures it must be the very functions of the run, not others that could drift from them."""
WITHOUT_TORCH = ("check", "download", "extract_patches", "report", "tables")
"""Stages of files and tables alone, which start in a second."""
STREAMS = {"sys.stdout", "sys.stderr"}


def breaches(file: Path, tree: ast.AST) -> list[str]:
    """Return what a file of the library or a stage must not do, one line each."""
    names = imports.imported(tree)
    packages = {name.partition(".")[0] for name in names}
    if file in STAGES:
        of_stages = {name for name in names if name.startswith("stages.")}
        allowed = {name for name in of_stages if name.startswith("stages._")}  # what they share
        if file in CELLS:
            allowed = of_stages
        found = (of_stages - allowed) | ({"pipelines", "tests"} & packages)
    elif file in CLI:
        found = ABOVE_THE_LIBRARY & packages
    else:
        found = (ABOVE_THE_LIBRARY | (set() if file == OPTIONS else COMMAND_LINES)) & packages
        if file not in TUNING:  # it tells MKL how to compute, for whoever imports the library
            found |= _uses(tree, names, ENVIRONMENT)
        if file != CONSOLE:
            found |= TERMINAL & names
            found |= _uses(tree, names, STREAMS)
    return [f"{file}: {text}" for text in sorted(found)]


def _uses(tree: ast.AST, names: set[str], refused: set[str]) -> set[str]:
    """Return which of some attributes of modules, such as os.environ, a file uses, and print."""
    found = refused & names
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            found |= refused & {ast.unparse(node)}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
            found.add("print()")
    return found


@pytest.mark.parametrize("file", [*LIBRARY, *STAGES], ids=str)
def test_imports_point_one_way(file: Path):
    assert breaches(file, imports.parse(file)) == []


@pytest.mark.parametrize("stage", WITHOUT_TORCH)
def test_stages_without_a_network_load_no_torch(stage: str):
    slow = {"torch", "diffusers", "torch_fidelity", "open_clip", "accelerate"}
    files = imports.loaded_files(Path(f"stages/{stage}.py"))
    assert {
        file: found for file in files if (found := slow & imports.imported(imports.parse(file)))
    } == {}


@pytest.mark.parametrize(
    ("file", "source", "breach"),
    [
        ("patchdm/grid.py", "def f():\n    import dvclive.utils", "dvclive"),
        ("patchdm/grid.py", "from stages._common import RAW", "stages"),
        ("patchdm/grid.py", "import argparse", "argparse"),
        ("patchdm/cli/plan.py", "import typer", "typer"),
        ("patchdm/cli/options.py", "import typer\nprint('hello')", "print()"),
        ("patchdm/grid.py", "import os\nhome = os.environ['HOME']", "os.environ"),
        ("patchdm/grid.py", "from os import getenv", "os.getenv"),
        ("patchdm/grid.py", "print('hello')", "print()"),
        ("patchdm/grid.py", "import sys\nsys.stderr.write('hello')", "sys.stderr"),
        ("patchdm/grid.py", "from patchdm.console import warn", "patchdm.console"),
        ("patchdm/grid.py", "from patchdm import console", "patchdm.console"),
        ("patchdm/grid.py", "from rich.progress import Progress", "rich.progress"),
        ("patchdm/console.py", "print('hello')", "print()"),
        ("patchdm/cli/app.py", "import prefect", "prefect"),
        ("stages/download.py", "from stages import report", "stages.report"),
        ("stages/download.py", "import stages.report", "stages.report"),
        ("stages/ablate_train.py", "import pipelines.train", "pipelines"),
        ("stages/download.py", "from pipelines.reproduce import flow", "pipelines"),
    ],
)
def test_wrong_imports_are_seen(file: str, source: str, breach: str):
    assert breaches(Path(file), ast.parse(source)) == [f"{file}: {breach}"]


def test_right_imports_are_not():
    source = "from stages._common import RAW\nimport stages._common\nprint('done')"
    assert breaches(Path("stages/download.py"), ast.parse(source)) == []
    assert breaches(min(CLI), ast.parse("import typer\nprint('done')")) == []
    assert breaches(OPTIONS, ast.parse("import typer")) == []
    assert breaches(Path("stages/ablate_train.py"), ast.parse("import stages.sample")) == []


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of four modules and a stage."""
    sources = {
        "patchdm/__init__.py": "",
        "patchdm/deep/__init__.py": "",
        "patchdm/deep/a.py": "def f():\n    from patchdm import b",
        "patchdm/b.py": "import patchdm.deep.a",
        "patchdm/unused.py": "",
        "stages/one.py": "from patchdm.deep.a import f\nfrom stages._common import RAW, STATE\n"
        "def one(params):\n    help(params)\n    return params.train.x, params.rows, RAW\n"
        "def help(params): ...",
    }
    for name, source in sources.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source)
    monkeypatch.setattr(imports, "REPO", tmp_path)
    return tmp_path


@pytest.mark.usefixtures("scratch")
def test_imports_are_followed_to_the_end():
    patchdm = {"patchdm/__init__.py", "patchdm/b.py", "patchdm/deep/__init__.py"}
    expected = patchdm | {"patchdm/deep/a.py", "stages/one.py"}
    assert {str(path) for path in imports.loaded_files(Path("stages/one.py"))} == expected


def test_reads_of_params_and_paths_are_found(scratch: Path):
    stage = Path("stages/one.py")
    assert imports.sections_read(stage) == {"train", "data", "model"}
    assert imports.paths_used(stage) == {Path("data/raw")}
    (scratch / stage).write_text("def one(params):\n    params_hash(params)")
    assert imports.sections_read(stage) == set(imports.Params.model_fields)
