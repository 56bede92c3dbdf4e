"""A release: one version, files that tools read, and a wheel that works without the repository."""

from __future__ import annotations

import glob
import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from ruamel.yaml import YAML

from patchdm.formats.images import read_image, save_png
from tests.conftest import REPO
from tests.photographs import BUNDLED
from tests.served import model_of_studio

VERSION = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["version"]
STEPS = ("--steps", "2")


@pytest.fixture(scope="module")
def licences() -> ModuleType:
    """The script of `make licences`."""
    spec = importlib.util.spec_from_file_location("licences", REPO / "tools/licences.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_version_stands_in_one_place():
    tracked = subprocess.run(
        ["git", "grep", "-lF", VERSION], cwd=REPO, capture_output=True, text=True, check=True
    )
    assert set(tracked.stdout.split()) <= {"CHANGELOG.md", "pyproject.toml"}
    first = re.search(r"^## (\S+) - [0-9-]{10}$", (REPO / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert first
    assert first[1] == VERSION


def test_the_citation_names_paper_and_software():
    found = YAML(typ="safe").load(REPO / "CITATION.cff")
    assert found["cff-version"] == "1.2.0"
    assert {"title", "message", "authors", "license"} <= found.keys()
    paper = found["preferred-citation"]
    assert [each["family-names"] for each in paper["authors"]] == ["Ding", "Zhang", "Wu", "Tu"]
    assert paper["year"] == 2024


@pytest.mark.parametrize("name", ["bug", "idea", "result"])
def test_issue_forms_ask_something(name: str):
    form = YAML(typ="safe").load(REPO / f".github/ISSUE_TEMPLATE/{name}.yml")
    assert {"name", "description", "body"} <= form.keys()
    kinds = {each["type"] for each in form["body"]}
    assert kinds <= {"markdown", "input", "textarea", "dropdown", "checkboxes"}
    ids = [each["id"] for each in form["body"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("licence", "kind"),
    [
        ("MIT", "permissive"),
        ("BSD-3-Clause AND MPL-2.0", "weak copyleft"),
        ("EPL-2.0 OR Apache-2.0", "permissive"),
        ("GPL-3.0-only", "copyleft"),
        ("GNU Lesser General Public License v3 (LGPLv3)", "weak copyleft"),
        ("CC-BY-NC-4.0", "forbids"),
        ("Free for non-commercial use", "forbids"),
        ("", "unknown"),
    ],
)
def test_kinds_of_licences(licences: ModuleType, licence: str, kind: str):
    assert licences.kind_of(licence) == kind


def test_no_licence_forbids_the_use(
    licences: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "argv", ["licences.py"])
    licences.main()
    assert "| torch | " in capsys.readouterr().out
    monkeypatch.setitem(licences.KINDS, "forbids", "Apache")
    with pytest.raises(SystemExit, match="error: accelerate: found licence"):
        licences.main()


def test_a_run_of_the_wheel_has_all_that_stages_read():
    tools = tomllib.loads((REPO / "pyproject.toml").read_text())["tool"]["setuptools"]
    there = {
        Path(folder, Path(file).name).relative_to("share/patchdm").as_posix()
        for folder, files in tools["data-files"].items()
        for pattern in files
        for file in glob.glob(pattern, root_dir=REPO)  # noqa: PTH207 - of hidden files
    }
    stages = YAML(typ="safe").load(REPO / "dvc.yaml")["stages"].values()
    kinds = ("outs", "metrics", "plots")
    made = {next(iter(out)) if isinstance(out, dict) else out
            for stage in stages for kind in kinds for out in stage.get(kind, [])}  # fmt: skip
    read = {dep for stage in stages for dep in stage.get("deps", [])}
    begun = {*made, "patchdm", "stages", "data/ablations", "reports/ablations"}
    lacking = {
        dep
        for dep in read
        if not any(dep == each or dep.startswith(f"{each}/") for each in begun)
        and not any(file == dep or file.startswith(f"{dep}/") for file in there)
    }
    assert not lacking
    assert {"dvc.yaml", ".dvc/config", "data/.gitignore", "presets/demo.yaml"} <= there


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of `make dist`."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--outdir", folder, REPO]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert (folder / f"patchdm-{VERSION}.tar.gz").is_file()
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_has_what_commands_read(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    data = [path.relative_to(REPO).as_posix() for path in (REPO / "patchdm").rglob("*.*")]
    needed = [name for name in data if "__pycache__" not in name]
    assert len(needed) > 200
    assert not set(needed) - names
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "tools"))]


@pytest.mark.slow
def test_the_wheel_lays_out_a_run(wheel: Path, tmp_path: Path):
    """The wheel in an environment of its own, whose other packages are those of this one."""
    venv.create(tmp_path / "venv", with_pip=False)
    place = Path(sysconfig.get_path("purelib", vars={"base": str(tmp_path / "venv")}))
    command = [sys.executable, "-m", "pip", "--python", tmp_path / "venv", "install", "--no-deps"]
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    subprocess.run([*command, "--quiet", wheel], env=kept, check=True)
    (place / "others.pth").write_text(sysconfig.get_path("purelib"))
    photographs = tmp_path / "sea"
    with zipfile.ZipFile(BUNDLED) as archive:
        archive.extractall(photographs, archive.namelist()[:12])
    patchdm = tmp_path / "venv/bin/patchdm"
    fit = [patchdm, "fit", photographs, "--size", "64x32", "--hours", "10"]
    done = subprocess.run(fit, cwd=tmp_path, env=kept, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "runs/sea/params.yaml: written" in done.stdout
    python = tmp_path / "venv/bin/python"
    stages = [python, "-m", "dvc", "repro", "extract_patches"]
    environment = kept | {"PATH": f"{python.parent}{os.pathsep}{kept['PATH']}"}
    subprocess.run(stages, cwd=tmp_path / "runs/sea", env=environment, check=True)
    assert (tmp_path / "runs/sea/data/patches").is_dir()


@pytest.mark.slow
def test_the_wheel_works_in_any_folder(wheel: Path, tmp_path: Path):
    """Minutes: all packages come from the package index, pinned; pip's cache saves downloads."""
    venv.create(tmp_path / "venv", with_pip=True)
    bins = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment = {**kept, "PATH": f"{bins}{os.pathsep}{os.environ['PATH']}"}
    folder = tmp_path / "elsewhere"
    folder.mkdir()

    def run(*command: str | Path) -> str:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    pins = ["--constraint", REPO / "constraints.txt"]
    run(
        bins / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        *pins,
        f"patchdm[app] @ {wheel.as_uri()}",
    )
    patchdm = bins / "patchdm"
    assert run(patchdm, "--version") == f"patchdm {VERSION}\n"
    run(patchdm, "sample", "--seeds", "0:2", *STEPS, "--out", "out", "--grid")
    photograph = folder / "out/000000/000000.png"
    assert read_image(photograph).shape == (128, 256, 3)
    hole = np.zeros((128, 256, 3), np.uint8)
    hole[32:96, 64:192] = 255
    save_png(folder / "hole.png", hole)
    run(patchdm, "inpaint", photograph, "hole.png", *STEPS, "--out", "whole.png")
    run(patchdm, "outpaint", photograph, "--right", "32", *STEPS, "--out", "wide.png")
    assert read_image(folder / "wide.png").shape == (128, 288, 3)
    assert model_of_studio([patchdm], folder, environment)["width"] == 256
    large = ("panorama", "--seeds", "0:2", "--size", "256x128", *STEPS, "--out", "large.tif")
    refused = subprocess.run(
        [patchdm, *large],
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert refused.stderr.splitlines()[-1].endswith("`pip install 'patchdm[large]'`")
