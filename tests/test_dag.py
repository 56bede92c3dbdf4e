"""dvc.yaml declares what the stages really import, read and write."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from patchdm.config import load_params
from stages._declared import declared_params
from tests import imports
from tests.imports import DATA_PATHS, REPO, STAGES


@cache
def declared() -> dict[Path, Any]:
    """Return the stages of dvc.yaml by their file, as DVC reads them with an ablation of one cell.

    Without cells DVC does not see the stages of the ablation.
    """
    yaml = YAML(typ="safe", pure=True)
    params = yaml.load(REPO / "params.yaml")
    params["ablation"] = {"variants": ["full"], "samplings": ["shifted"], "seeds": [0]}
    with TemporaryDirectory() as folder:
        shutil.copy(REPO / "dvc.yaml", folder)
        yaml.dump(params, Path(folder, "params.yaml"))
        Repo.init(folder, no_scm=True).close()
        with Repo(folder) as repo:
            stages = repo.index.stages
    return {Path("stages", _module(stage.cmd) + ".py"): stage for stage in stages}


def _module(command: str) -> str:
    match = re.fullmatch(r"(?:exec )?python -m stages\.(\w+)(?: (?:full|shifted) 0)?", command)
    assert match, f"`{command}`: a stage runs as `python -m stages.NAME [CELL]`, without flags"
    return match[1]


def _deps(stage: Any) -> set[Path]:
    return {Path(dep.def_path) for dep in stage.deps if dep not in stage.params}


def _outs(stage: Any) -> set[Path]:
    return {Path(out.def_path) for out in stage.outs}


def _sections(stage: Any) -> set[str]:
    return {key.partition(".")[0] for dep in stage.params for key in dep.params}


def _upstream(stage: Any) -> list[Any]:
    """Return the stages whose outputs a stage reads, and theirs."""
    read = [other for other in declared().values() if _deps(stage) & _outs(other)]
    return [*read, *(further for other in read for further in _upstream(other))]


def _known(paths: set[Path]) -> set[Path]:
    """Return the outputs named in _common that are, or hold, some of these paths."""
    known = DATA_PATHS.values()
    return {output for output in known if any(path.is_relative_to(output) for path in paths)}


def _same(name: str, expected: set[Any], found: set[Any]) -> None:
    """Fail with what to add to dvc.yaml and what to remove, line by line."""
    add = [f"add    {item}" for item in sorted(expected - found, key=str)]
    remove = [f"remove {item}" for item in sorted(found - expected, key=str)]
    if add or remove:
        pytest.fail("\n".join([f"dvc.yaml, {name}:", *add, *remove]), pytrace=False)


def test_every_stage_is_declared():
    _same("all stages", set(STAGES), set(declared()))


@pytest.mark.parametrize("file", STAGES, ids=lambda file: file.stem)
def test_code_is_declared(file: Path):
    code = {path for path in _deps(declared()[file]) if path.parts[0] in ("patchdm", "stages")}
    _same(file.stem, imports.code_units(file), code)


@pytest.mark.parametrize("file", STAGES, ids=lambda file: file.stem)
def test_declared_parameters_exist(file: Path):
    assert declared_params(file.stem, load_params(REPO / "params.yaml"))


def test_inert_code_is_there():
    assert [path for path in imports.INERT if not (REPO / path).exists()] == []


@pytest.mark.parametrize("file", STAGES, ids=lambda file: file.stem)
def test_params_are_declared(file: Path):
    expected = imports.sections_read(file)
    # A record holds the hash of all parameters that it follows from.
    if any("params_digest" in (REPO / each).read_text() for each in {file, *imports.called(file)}):
        expected = expected.union(*map(_sections, _upstream(declared()[file])))
    # run_stage sets base.threads: whether that matters to the output is the stage's to say.
    expected = expected - {"machine"}  # which changes no byte
    _same(file.stem, expected, _sections(declared()[file]) - ({"base"} - expected))


@pytest.mark.parametrize("file", STAGES, ids=lambda file: file.stem)
def test_paths_are_declared(file: Path):
    stage = declared()[file]
    _same(file.stem, imports.paths_used(file), _known(_deps(stage) | _outs(stage)))


def test_every_path_has_a_writer():
    outs = {out for stage in declared().values() for out in _outs(stage)}  # DVC refuses two
    _same("all stages", set(DATA_PATHS.values()), _known(outs))


def test_outs_are_cached_by_dvc_and_ignored_by_git():
    for stage in declared().values():
        for out in stage.outs:
            assert out.use_cache, f"{out.def_path}: `cache: false` defeats the run cache"
            # Photographs are put there by mistake, and never come from the run cache
            persistent = out.def_path == "data/raw"
            assert out.persist == persistent, f"{out.def_path}: `persist` defeats the run cache"
            ignored = ["git", "check-ignore", "--quiet", out.def_path]
            assert subprocess.run(ignored, cwd=REPO, check=False).returncode == 0, out.def_path
