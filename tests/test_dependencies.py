"""pyproject.toml declares every distribution that is imported, and constraints.txt pins it."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests import imports
from tests.imports import OUR_PACKAGES, REPO

RUNNERS = ("dask", "ray")
"""Extras that flows import where they are asked for."""

DISTRIBUTIONS = packages_distributions()
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
PINNED = {
    line.partition("==")[0]
    for line in (REPO / "constraints.txt").read_text().splitlines()
    if not line.startswith("#")
}


def normal(name: str) -> str:
    """Return a distribution's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def names(requirements: list[str]) -> set[str]:
    """Return the distributions of requirements such as `httpx>=0.27`."""
    return {normal(re.split(r"[\[<>=!~ ;]", text)[0]) for text in requirements}


DECLARED = names(PROJECT["dependencies"])
EXTRAS = {extra: names(texts) for extra, texts in PROJECT["optional-dependencies"].items()}


def declared(package: str) -> set[str]:
    """Return the distributions that a package of ours may import."""
    match package:
        case "patchdm":  # tests/test_installs.py sees what does without the extras
            return DECLARED | EXTRAS["heif"] | EXTRAS["pipeline"] | EXTRAS["app"]
        case "stages":
            return DECLARED | EXTRAS["pipeline"]
        case "pipelines":
            return DECLARED.union(*(EXTRAS[extra] for extra in ("pipeline", *RUNNERS)))
    return DECLARED.union(*EXTRAS.values())


def undeclared(package: str, modules: set[str]) -> dict[str, list[str]]:
    """Return imported modules -> their distributions, of which none is declared."""
    ours = OUR_PACKAGES | {"benchmarks", "tools", ""}
    tops = {module.partition(".")[0] for module in modules} - ours - sys.stdlib_module_names
    found = {top: [normal(name) for name in DISTRIBUTIONS.get(top, [])] for top in sorted(tops)}
    return {top: owners for top, owners in found.items() if not declared(package) & set(owners)}


@pytest.mark.parametrize("package", sorted(OUR_PACKAGES | {"benchmarks", "tools"}))
def test_every_import_is_declared(package: str):
    files = sorted((REPO / package).rglob("*.py"))
    assert files
    modules = {name for file in files for name in imports.imported(imports.parse(Path(file)))}
    assert undeclared(package, modules) == {}


def test_undeclared_imports_are_seen():
    modules = {"os.path", "psutil", "six", "nowhere.at.all", "pytest", "patchdm.grid"}
    assert undeclared("stages", modules) == {
        "nowhere": [], "pytest": ["pytest"], "six": ["six"]
    }  # fmt: skip
    assert undeclared("tests", {"pytest", "prefect_ray.context"}) == {}


def test_what_is_declared_is_pinned():
    own = {"patchdm"}
    assert DECLARED.union(*EXTRAS.values()) - own <= {normal(name) for name in PINNED}
