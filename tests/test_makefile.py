"""`make` in folders of any name, and in a clone that was moved with its .venv."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPO
from tests.pipelines.toy import commit

NAMES = ("plain", "my photos", 'it\'s "mine"', "$HOME $(id) `id`", "ünï#cödé & more;")
FAKE = """\
#!/bin/sh
echo "{name}$(printf ' <%s>' "$@") in $PWD of $PATCHDM_CLONE"
"""


@pytest.fixture(params=NAMES)
def clone(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A clone, installed, whose `dvc` and `prefect` only repeat what they are told."""
    root = tmp_path / request.param / "p"
    make_clone(root)
    for name in ("dvc", "prefect"):
        write_script(root / ".venv/bin" / name, FAKE.format(name=name))
    return root


def make_clone(root: Path) -> None:
    """Make a repository of what `make` reads, with a .venv that has no packages."""
    for name in ("Makefile", "tools/relocate.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPO / name, root / name)
    empty = ("pyproject.toml", "constraints.txt", "params.yaml", "dvc.lock")
    for name in (*empty, "pipelines/__init__.py"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    (root / "pipelines/remote.py").write_text("print('probed')\n")
    (root / "pipelines/evaluate_ablations.py").write_text("print('evaluated')\n")
    (root / ".gitignore").write_text(".venv\n.state\n")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    commit(root)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", root / ".venv"], check=True)
    (root / ".venv/installed").touch()


def write_script(path: Path, text: str) -> None:
    """Write an executable file."""
    path.write_text(text)
    path.chmod(0o755)


def make(root: Path, *arguments: str, code: int = 0) -> list[str]:
    """Run make; return the lines that it prints.

    The make that runs the tests hands its level and flags on by the environment: without them this
    one is not a make within a make, which prints the folders that it enters.
    """
    of_make = ("MAKE", "MFLAGS")
    own = {key: value for key, value in os.environ.items() if not key.startswith(of_make)}
    own["PATH"] = own["PATH"].replace(str(Path(sys.executable).parent), "/nowhere")
    done = subprocess.run(
        ["make", *arguments],
        cwd=root,
        env=own,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout
    return done.stdout.splitlines()


def test_targets_work_in_any_folder(clone: Path):
    ours = f"in {clone} of "
    assert make(clone, "demo")[0] == f"dvc <repro> {ours}"
    worker = (
        f"prefect <worker> <start> <--type> <process> <--pool> <{{}}> <--limit> <1> {ours}{clone}"
    )
    assert make(clone, "worker") == [worker.format("local")]
    assert make(clone, "worker", "POOL=my clones") == [worker.format("my clones")]
    assert make(clone, "server")[-1] == f"prefect <server> <start> {ours}"


def test_the_study_works_in_any_folder(clone: Path):
    assert make(clone, "study") == ["evaluated"]


def test_remotes_in_any_folder(clone: Path):
    storage = str(clone.parent / "storage")
    ours = f"in {clone} of "
    added = f"dvc <remote> <add> <--default> <--force> <storage> <{storage}> {ours}"
    assert make(clone, "remote", f"URL={storage}") == [added, "probed"]
    endpoint = f"dvc <remote> <modify> <storage> <endpointurl> <https://host/$x> {ours}"
    assert make(clone, "remote", f"URL={storage}", "ENDPOINT=https://host/$x") == [
        added, endpoint, "probed"
    ]  # fmt: skip
    assert make(clone, "remote", code=2)[0].startswith("error: URL is missing")


def test_activate_in_any_folder(clone: Path):
    make(clone, "install")
    script = "source .venv/bin/activate; type -P dvc; python -c 'import sys; print(sys.prefix)'"
    done = subprocess.run(
        ["bash", "-c", script], cwd=clone, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [f"{clone}/.venv/bin/dvc", f"{clone}/.venv"]


@pytest.mark.parametrize("copied", [False, True], ids=["moved", "copied"])
@pytest.mark.parametrize("name", NAMES)
def test_a_moved_clone_is_repaired(tmp_path: Path, name: str, copied: bool):
    old, new = tmp_path / "old", tmp_path / name
    make_clone(old)
    python = old / ".venv/bin/python"
    source = "import sys, here\nprint(sys.argv[1:], here.__file__)\n"
    write_script(old / ".venv/bin/dvc", f"#!{python}\n{source}")
    spaced = f"#!/bin/sh\n'''exec' \"{python}3.11\" \"$0\" \"$@\"\n' '''\n"  # as pip writes it
    write_script(old / ".venv/bin/prefect", spaced + source)
    (packages,) = (old / ".venv").glob("lib/python*/site-packages")
    (packages / "__editable__.patchdm-0.1.0.pth").write_text(f"{old}\n")
    (old / "here.py").touch()
    assert make(old, "demo")[0] == f"['repro'] {old}/here.py"
    if copied:
        shutil.copytree(old, new, symlinks=True)
    else:
        old.rename(new)
    assert make(new, "demo")[0] == f"['repro'] {new}/here.py"
    assert make(new, "server")[-1] == f"['server', 'start'] {new}/here.py"
    before = (new / ".venv/bin/dvc").stat().st_mtime_ns
    assert make(new, "install") == []
    assert (new / ".venv/bin/dvc").stat().st_mtime_ns == before


def test_other_scripts_are_left_alone(tmp_path: Path):
    make_clone(tmp_path / "p")
    kept = {"env": "#!/usr/bin/env python\n", "shell": "#!/bin/sh\necho hello\n", "empty": ""}
    for name, text in kept.items():
        write_script(tmp_path / "p/.venv/bin" / name, text)
    make(tmp_path / "p", "install")
    assert {name: (tmp_path / "p/.venv/bin" / name).read_text() for name in kept} == kept


def test_a_linked_environment_is_left_alone(tmp_path: Path):
    make_clone(tmp_path / "p")
    (tmp_path / "p/.venv").rename(tmp_path / "shared")
    (tmp_path / "p/.venv").symlink_to(tmp_path / "shared")
    write_script(tmp_path / "shared/bin/dvc", "#!/other/bin/python\n")
    make(tmp_path / "p", "install")
    assert (tmp_path / "shared/bin/dvc").read_text() == "#!/other/bin/python\n"
    assert (tmp_path / "shared/installed").read_text() == ""
