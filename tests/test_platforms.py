"""macOS and Windows, as far as they can be held without one: what they lack, and what they have."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from patchdm import devices, locks
from patchdm.cli.app import main
from patchdm.parallel import in_order, own_processes
from tests.cli import conftest as commands
from tests.cli.runs import hashes
from tests.conftest import REPO
from tests.fake_windows import msvcrt
from tests.served import model_of_studio

folders, work = commands.folders, commands.work

WINDOWS = [sys.executable, "-m", "tests.fake_windows"]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(REPO)}
STEPS = ("--steps", "2")


@pytest.fixture(params=["flock", "ranges of bytes"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks as Linux and macOS have them, and as Windows does."""
    if request.param != "flock":
        monkeypatch.setattr(locks, "fcntl", None)
        monkeypatch.setattr(locks, "msvcrt", msvcrt())


@pytest.mark.usefixtures("system")
def test_a_lock_is_held_by_one_or_shared_by_many(tmp_path: Path):
    path = tmp_path / "lock"
    with locks.locked(path) as mine:
        assert mine
        for shared in (False, True):
            with locks.locked(path, shared=shared) as also:
                assert not also
    with locks.locked(path, shared=True) as first, locks.locked(path, shared=True) as second:
        assert first
        assert second
        with locks.locked(path) as alone:
            assert not alone
    with locks.locked(path) as mine:
        assert mine


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize("shared", [False, True])
def test_a_lock_may_be_waited_for(tmp_path: Path, shared: bool):
    path, seen = tmp_path / "lock", []

    def wait() -> None:
        with locks.locked(path, shared=shared, wait=True) as mine:
            seen.append(mine)

    thread = threading.Thread(target=wait)
    with locks.locked(path):
        thread.start()
        time.sleep(0.2)
        assert seen == []
    thread.join(10)
    assert seen == [True]


def twice(number: int) -> int:
    return 2 * number


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_elsewhere_processes_are_not_forked(platform: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", platform)
    context = own_processes("patchdm")
    monkeypatch.undo()
    assert context.get_start_method() == "spawn"


def test_processes_that_are_not_forked_work(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("patchdm.parallel.own_processes", lambda _: context)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "darwin")
        context = own_processes("patchdm")
    assert list(in_order(twice, range(5), 2)) == [0, 2, 4, 6, 8]


def windows(*argv: str) -> str:
    """Run the command as on Windows; return what it prints."""
    done = subprocess.run(
        [*WINDOWS, *argv], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.usefixtures("work")
def test_commands_need_nothing_that_windows_lacks():
    command = ["sample", "pipe", "--seeds", "0:4", "--shard-size", "2", *STEPS, "--out"]
    assert windows(*command, "there") == "there: done\n"
    main([*command, "here"])
    assert hashes(Path("there")) == hashes(Path("here"))
    Path("there/000002/000003.png").unlink()
    assert windows(*command, "there") == "there: done\n"
    assert hashes(Path("there")) == hashes(Path("here"))


@pytest.mark.usefixtures("work")
@pytest.mark.parametrize(
    "command",
    [
        "outpaint pipe photo.png --right 8 --code latent --steps 2 --out out.png",
        pytest.param(
            "panorama pipe --seeds 0:2 --size 48x16 --steps 2 --out out.png",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "inpaint pipe photo.png mask.png --code latent --steps 2 --out out.png",
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda text: text.partition(" ")[0],
)
def test_commands_make_the_same_file_as_on_windows(command: str):
    assert windows(*command.split()) == "out.png: done\n"
    expected = Path("out.png").read_bytes()
    Path("out.png").unlink()
    main(command.split())
    assert Path("out.png").read_bytes() == expected


def test_the_studio_needs_nothing_that_windows_lacks(work: Path):
    assert model_of_studio(WINDOWS, work, ENVIRONMENT)["width"]


def test_the_fake_refuses_what_windows_lacks():
    for lacking in ("import fcntl", "import os; os.fork", "import signal; signal.SIGPIPE"):
        code = f"from tests.fake_windows import windows; windows()\n{lacking}"
        done = subprocess.run(
            [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, check=False
        )
        assert done.returncode == 1


def test_a_mac_computes_on_its_gpu(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert devices.default_device() == "cpu"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert devices.default_device() == "mps"
    assert devices.precision("auto") == "no"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert devices.default_device() == "cuda"
