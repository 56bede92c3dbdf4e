"""What all stages share: parameters, paths, progress, and the manners of a DVC command."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from threadpoolctl import threadpool_limits

from patchdm.config import Params, Section, load_params, params_hash
from patchdm.errors import MISTAKES, PatchDMError, mistake, show_any_text
from patchdm.files import replacing, sha256

PARAMS = Path("params.yaml")
RAW = Path("data/raw")
PATCHES = Path("data/patches")
FEATURES = Path("data/features.parquet")
PATCHDM = Path("data/models/patchdm")
CODES = Path("data/codes.parquet")
LATENT = Path("data/models/latent")
REFERENCE = Path("data/reference")
SAMPLES = Path("data/samples")
APPLICATIONS = Path("data/applications")
PATCHDM_CURVES = Path("reports/curves/patchdm")
LATENT_CURVES = Path("reports/curves/latent")
METRICS = Path("reports/metrics.json")
TABLES = Path("reports/tables")
APPLICATION_TABLES = Path("reports/applications")
ABLATIONS = Path("data/ablations")
ABLATION_METRICS = Path("reports/ablations")
PAPER_TABLES = Path("reports/paper")
FIGURES = Path("reports/figures")
REPORT = Path("reports/index.html")
STATE = Path(".state")

_PR_SET_PDEATHSIG = 1


def run_stage(stage: Callable[[Params], None]) -> None:
    """Run a stage as a command: read params.yaml, work, exit 0, or print one line and exit 1."""
    die_with_parent()
    signal.signal(signal.SIGTERM, _exit_on_sigterm)
    show_any_text()
    try:
        params = load_params(PARAMS)
        threads = max(1, params.base.threads // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        torch.set_num_threads(threads)
        with threadpool_limits(threads):  # numpy's linear algebra
            stage(params)
    except MISTAKES as error:
        if (line := mistake(error)) is None:
            raise
        sys.exit(f"error: {line}")


@contextlib.contextmanager
def state_dir(stage: str, sections: list[Section], inputs: list[Path]) -> Iterator[Path]:
    """Yield `.state/<stage>/<key>/`, locked, where a killed stage finds its progress again.

    Of processes that train together the main one alone holds the lock.

    The key hashes parameters, the code of `stages` and `patchdm`, and the inputs, so that
    progress made under other circumstances is never picked up.

    Raises:
        PatchDMError: another process runs the same stage on the same inputs.
    """
    code = sorted([*Path("stages").rglob("*.py"), *Path("patchdm").rglob("*.py")])
    files = [*code, *(file for path in inputs for file in _files(path))]
    digest = hashlib.sha256(params_hash(*sections).encode())
    for file in files:
        digest.update(f"{file}\0{sha256(file)}\0".encode())
    folder = STATE / stage / digest.hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            if is_main():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PatchDMError(f"{folder}: another process is running stage {stage}") from None
        yield folder


def is_main() -> bool:
    """Say whether this is the process that writes, of those that train together or alone."""
    return os.environ.get("RANK", "0") == "0"


@contextlib.contextmanager
def progress(description: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Show a progress bar with rate and ETA; yield a function that sets how much is done."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]} " + unit + "/s"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=total, rate="-")

        def advance_to(done: int) -> None:
            speed = bar.tasks[0].speed
            bar.update(task, completed=done, rate=f"{speed:.1f}" if speed else "-")

        yield advance_to


def publish(target: Path, parts: dict[str, Path]) -> None:
    """Copy folders into one output: name in the output (`.` is its top) -> folder."""
    with replacing(target) as fresh:
        for name, folder in parts.items():
            shutil.copytree(folder, fresh / name, dirs_exist_ok=True)


def warn(message: str) -> None:
    """Say on standard error what went wrong but does not stop the stage."""
    Console(stderr=True).print(f"warning: {message}", markup=False, highlight=False)


def git_revision() -> str:
    """Return the commit of the code, with "-dirty" where files differ from it, or "unknown".

    params.yaml and dvc.lock may differ: a run has a hash of the one and writes the other.
    """
    changed = ["diff", "--quiet", "HEAD", "--", ":/", ":(top,exclude)params.yaml"]
    try:
        revision = _git("describe", "--always").stdout.strip()
        clean = _git(*changed, ":(top,exclude)dvc.lock", check=False).returncode == 0
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return revision if clean else f"{revision}-dirty"


def _git(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=check)  # noqa: S603, S607 - fixed


def _files(path: Path) -> list[Path]:
    """Return the files of a path, sorted; of a folder those below it."""
    if not path.exists():
        raise PatchDMError(f"{path}: not found, run the stage that writes it (`dvc repro`)")
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def die_with_parent() -> None:
    """Ask the kernel (Linux) for SIGTERM when the process that started us dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _exit_on_sigterm(number: int, _frame: object) -> None:
    sys.exit(128 + number)  # SystemExit unwinds, so that open work is saved or removed
