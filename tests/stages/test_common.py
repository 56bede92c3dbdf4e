"""What the stages share."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ruamel.yaml import YAML

from patchdm.config import Params, load_params
from patchdm.errors import PatchDMError
from stages import _common, _declared
from stages._common import (
    CODES,
    PATCHES,
    RUN,
    SAMPLES,
    STATE,
    TIMES,
    Run,
    git_revision,
    run_command,
    state_dir,
)
from tests.conftest import REPO
from tests.stages.tiny import tiny_params


@pytest.mark.usefixtures("tmp_dir")
def test_a_run_does_not_change_the_revision_of_its_code(monkeypatch: pytest.MonkeyPatch):
    for name in ("params.yaml", "dvc.lock", "code.py"):
        Path(name).write_text("1")
    for command in (["init"], ["add", "."], ["commit", "-m", "start"]):
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        subprocess.run(["git", *identity, *command], check=True, capture_output=True)
    clean = git_revision()
    Path("params.yaml").write_text("2")
    Path("dvc.lock").write_text("2")
    Path("below").mkdir()
    monkeypatch.chdir("below")
    assert git_revision() == clean
    Path("../code.py").write_text("2")
    assert git_revision() == f"{clean}-dirty"


@pytest.fixture
def run(tmp_dir: Path):  # noqa: ARG001 - the current folder
    """Work in the folder of a run; return what a stage ends with that raises an error."""
    write_params(tiny_params())
    before = signal.getsignal(signal.SIGTERM)

    def ending(error: Exception) -> str:
        def stage(_params: object) -> None:
            raise error

        with pytest.raises(SystemExit) as ended:
            run_command("check", stage, [])
        return str(ended.value)

    yield ending
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.EROFS, "on a read-only disk, expected one that can be written"),
        (errno.EACCES, "Permission denied"),
        (errno.EPERM, "Operation not permitted"),
        (errno.ENOSPC, "no space left on the disk"),
        (errno.EDQUOT, "no space left on the disk"),
        (errno.ENAMETOOLONG, "File name too long"),
        (errno.EIO, "Input/output error"),
    ],
    ids=errno.errorcode.get,
)
def test_what_a_disk_refuses_is_one_line(run, number: int, says: str):
    assert run(OSError(number, os.strerror(number), ".state/x")) == f"error: .state/x: {says}"
    assert run(OSError(number, os.strerror(number))) == f"error: output: {says}"


def test_mistakes_are_one_line_and_faults_of_the_program_are_not(run):
    assert run(PatchDMError("a\nb.jpg: found nothing")) == "error: a b.jpg: found nothing"
    no_ascii = UnicodeEncodeError("ascii", "é.jpg", 0, 1, "ordinal not in range(128)")
    assert run(no_ascii).startswith("error: '\\xe9.jpg': found characters that the encoding ascii")
    with pytest.raises(ConnectionError):
        run(ConnectionError("no number: of a library"))


PARAMS = load_params(REPO / "presets/smoke.yaml")


def edited(**sections: dict[str, Any]) -> Params:
    """Return the smoke preset with some keys of some sections changed."""
    values = PARAMS.model_dump()
    return Params.model_validate(
        {name: section | sections.get(name, {}) for name, section in values.items()}
    )


def write_params(params: Params) -> None:
    with Path("params.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump(params.model_dump(), file)


def run_and_edit(edit: Callable[[], None], params: Params = PARAMS) -> None:
    """Run train_patchdm as a command, which edits something instead of training."""
    write_params(params)
    try:
        _common.run_command("train_patchdm", lambda _params: edit(), [])
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_times_of_stages_are_kept_beside_their_outputs(run, monkeypatch: pytest.MonkeyPatch):
    clock = iter([10.0, 12.5, 20.0, 21.0])
    # This module's clock alone: threads that other tests left read the one of the process.
    timed = SimpleNamespace(**vars(time) | {"monotonic": lambda: next(clock)})
    monkeypatch.setattr(_common, "time", timed)
    run_command("check", lambda _params: None, [])
    run(PatchDMError("a.jpg: found nothing"))
    title, done, stopped = (STATE / TIMES).read_text().splitlines()
    assert title == "stage,ended,seconds,outcome"
    assert re.fullmatch(r"check,\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ,2.5,done", done)
    assert stopped.startswith("check,")
    assert stopped.endswith(",1.0,stopped")


@pytest.mark.usefixtures("tmp_dir")
def test_a_parameter_edited_while_a_stage_runs_ends_it_in_one_line():
    with pytest.raises(SystemExit) as ended:
        run_and_edit(lambda: write_params(edited(train={"learning_rate": 0.5})))
    assert str(ended.value).startswith("error: params.yaml: train.learning_rate was 0.001 when ")


@pytest.mark.usefixtures("tmp_dir")
@pytest.mark.parametrize("other", [{"report": {"sheet_images": 4}}, {"sample": {"num_steps": 3}}])
def test_a_parameter_that_it_does_not_declare_may_be_edited(other: dict[str, Any]):
    run_and_edit(lambda: write_params(edited(**other)))


@pytest.mark.usefixtures("tmp_dir")
@pytest.mark.parametrize(("deterministic", "found"), [(True, ":4096:8"), (False, "mine")])
def test_cublas_is_told_to_be_deterministic(
    monkeypatch: pytest.MonkeyPatch, deterministic: bool, found: str
):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "mine")
    run_and_edit(lambda: None, edited(machine={"deterministic": deterministic}))
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == found


@pytest.mark.usefixtures("tmp_dir")
def test_code_edited_while_a_stage_runs_ends_it_in_one_line(monkeypatch: pytest.MonkeyPatch):
    real, file = _declared.sha256, REPO / "patchdm/training/loop.py"

    def edit() -> None:
        monkeypatch.setattr(
            _declared, "sha256", lambda path: "edited" if path == file else real(path)
        )

    with pytest.raises(SystemExit) as ended:
        run_and_edit(edit)
    assert str(ended.value).startswith("error: patchdm/training/loop.py: edited while ")


def test_a_run_has_its_files_below_its_root_but_for_those_elsewhere():
    cell = Run(Path("cell"), {PATCHES: PATCHES, SAMPLES: Path("kept/samples")})
    assert cell / CODES == Path("cell/data/codes.parquet")
    assert [cell / PATCHES, cell / SAMPLES] == [PATCHES, Path("kept/samples")]
    assert RUN / CODES == CODES


@pytest.mark.usefixtures("tmp_dir")
def test_runs_have_states_of_their_own():
    cells = [Run(root := Path(name), {STATE: root}) for name in ("a", "b")]
    with (
        state_dir("sample", PARAMS, [], cells[0]) as first,
        state_dir("sample", PARAMS, [], cells[1]) as second,
        state_dir("sample", PARAMS, []) as third,
    ):
        assert first.parent == Path("a/sample")
        assert third.parent == STATE / "sample"
        assert first.name == second.name == third.name  # by params and code
        with pytest.raises(PatchDMError, match=r"^a/sample/\w+: another process is running stage"):
            key("sample", PARAMS, cells[0])


def key(stage: str, params: Params, run: Run = RUN) -> str:
    with state_dir(stage, params, [], run) as folder:
        return folder.name


@pytest.mark.usefixtures("tmp_dir")
@pytest.mark.parametrize(
    ("stage", "changed", "same"),
    [
        ("train_patchdm", {"train": {"learning_rate": 0.5}}, {"report": {"sheet_images": 4}}),
        ("train_patchdm", {"model": {"code_dim": 24}}, {"machine": {"loaders": 7, "processes": 4}}),
        ("extract_patches", {"data": {"test_fraction": 0.4}}, {"machine": {"workers": 7}}),
        ("download", {"data": {"pin": None, "source": "table"}}, {"machine": {"transfers": 9}}),
        ("sample", {"sample": {"num_steps": 3}}, {"evaluate": {"batch_size": 3}}),
        ("sample", {"sample": {"num_steps": 3}}, {"machine": {"deterministic": True}}),
    ],
)
def test_progress_is_found_again_if_what_is_declared_is_the_same(
    stage: str, changed: dict[str, Any], same: dict[str, Any]
):
    assert key(stage, edited(**changed)) != key(stage, PARAMS)
    assert key(stage, edited(**same)) == key(stage, PARAMS)


@pytest.mark.usefixtures("tmp_dir")
@pytest.mark.parametrize(
    ("file", "same"), [("patchdm/training/loop.py", False), ("patchdm/report/page.py", True)]
)
def test_progress_is_of_the_code_that_is_declared(
    file: str, same: bool, monkeypatch: pytest.MonkeyPatch
):
    before, real = key("train_patchdm", PARAMS), _declared.sha256
    monkeypatch.setattr(
        _declared, "sha256", lambda path: "edited" if path == REPO / file else real(path)
    )
    assert (key("train_patchdm", PARAMS) == before) == same
