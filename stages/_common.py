"""What all stages share: parameters, paths, progress, and the manners of a DVC command."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from threadpoolctl import threadpool_limits

from patchdm.config import Params, load_params
from patchdm.console import show_any_text
from patchdm.errors import MISTAKES, PatchDMError, mistake
from patchdm.files import sha256
from patchdm.memory import keep_freed_memory
from stages._declared import declared_code, declared_outputs, declared_params, files_of
from stages._outputs import refuse_foreign_files, writing

PARAMS = Path("params.yaml")
SOURCE = Path("data/source.json")
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
TIMES = "times.csv"
"""How long stages took, in STATE. It is no output: equal inputs give equal outputs."""

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Run:
    """Where the files of a run lie: `run / SAMPLES` is its samples.

    `elsewhere` says where those paths from above are that lie outside `root`: what a cell of the
    ablation shares with the run, and what DVC keeps of it.
    """

    root: Path = Path()
    elsewhere: Mapping[Path, Path] = field(default_factory=dict)

    def __truediv__(self, path: Path) -> Path:
        return self.elsewhere.get(path, self.root / path)


RUN = Run()
"""The run of params.yaml, in the current folder."""


def run_stage(stage: Callable[[Params], None]) -> None:
    """Run a stage as a command: read params.yaml, work, exit 0, or print one line and exit 1."""
    run_command(stage.__name__, stage, declared_outputs(stage.__name__))


def run_command(
    name: str, stage: Callable[[Params], None], outputs: Iterable[Path], words: Iterable[str] = ()
) -> None:
    """Run a stage that writes these outputs, which may hold nothing of the user's.

    `words` are the arguments of its command.
    """
    die_with_parent()
    signal.signal(signal.SIGTERM, _exit_on_sigterm)
    show_any_text()
    keep_freed_memory()
    try:
        params = load_params(PARAMS)
        if is_main():
            refuse_foreign_files(outputs)
        if params.machine.deterministic:  # cuBLAS reads it
            os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
        threads = max(1, params.base.threads // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        if torch := sys.modules.get("torch"):  # not every stage needs it
            torch.set_num_threads(threads)
        limits = threadpool_limits(threads)  # numpy's linear algebra
        with limits, _timed(" ".join([name, *words])), _unchanged(name, params):
            stage(params)
    except MISTAKES as error:
        if (line := mistake(error)) is None:
            raise
        sys.exit(f"error: {line}")


@contextlib.contextmanager
def _timed(stage: str) -> Iterator[None]:
    """Add a line to times.csv when a stage ends: stage, UTC, seconds, done or stopped."""
    start, outcome = time.monotonic(), "stopped"
    try:
        yield
        outcome = "done"
    finally:
        if is_main():
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            with contextlib.suppress(OSError):  # why the stage stopped says more
                STATE.mkdir(exist_ok=True)
                # One write, since other stages may end at the same time.
                with (STATE / TIMES).open("a") as file:
                    title = "" if file.tell() else "stage,ended,seconds,outcome\n"
                    file.write(f"{title}{stage},{now},{time.monotonic() - start:.1f},{outcome}\n")


@contextlib.contextmanager
def _unchanged(stage: str, params: Params) -> Iterator[None]:
    """See at the end that params and code are still those of the start.

    DVC records what it finds when a stage ends, and would take an edit for what was run.

    Raises:
        PatchDMError: a parameter or a file of code that the stage declares was edited.
    """
    values, code = declared_params(stage, params), declared_code(stage)
    yield
    edited = _flat(declared_params(stage, load_params(PARAMS)))
    for key, value in _flat(values).items():
        if edited.get(key) != value:
            raise PatchDMError(
                f"{PARAMS}: {key} was {value} when {stage} began and is {edited.get(key)} now, "
                "so the result is not recorded; run the same command again"
            )
    for path in sorted(code.items() ^ declared_code(stage).items()):
        raise PatchDMError(
            f"{path[0]}: edited while {stage} ran, so the result is not recorded; run the same "
            "command again"
        )


def _flat(values: dict[str, object]) -> dict[str, object]:
    """Return values with sections taken apart: dotted key -> value."""
    return {
        f"{key}.{name}" if name else key: part
        for key, value in values.items()
        for name, part in (value.items() if isinstance(value, dict) else [("", value)])
    }


@contextlib.contextmanager
def state_dir(stage: str, params: Params, inputs: Iterable[Path], run: Run = RUN) -> Iterator[Path]:
    """Yield `.state/<stage>/<key>/`, locked, where a killed stage finds its progress again.

    The key hashes what dvc.yaml declares of the stage, its parameters and code, and the inputs,
    so that progress made under other circumstances is never picked up.

    Raises:
        PatchDMError: another process runs the same stage on the same inputs.
    """
    hashes: dict[str, str] = {}
    for path in inputs:
        if not path.exists():
            raise PatchDMError(f"{path}: not found, run the stage that writes it (`dvc repro`)")
        hashes |= {file.as_posix(): sha256(file) for file in files_of(path)}
    facts = [declared_params(stage, params), declared_code(stage), hashes]
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    with locked(f"{stage}/{key}", run) as folder:
        yield folder


@contextlib.contextmanager
def locked(name: str, run: Run = RUN) -> Iterator[Path]:
    """Yield the folder `<name>` of a run's state, which no other process has at the same time.

    Of processes that train together the main one alone holds the lock.

    Raises:
        PatchDMError: another process has it.
    """
    folder = run / STATE / name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            if is_main():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stage = name.partition("/")[0]
            raise PatchDMError(f"{folder}: another process is running stage {stage}") from None
        yield folder


def is_main() -> bool:
    """Say whether this is the process that writes, of those that train together or alone."""
    return os.environ.get("RANK", "0") == "0"


def publish(target: Path, parts: dict[str, Path]) -> None:
    """Copy folders into one output: name in the output (`.` is its top) -> folder."""
    with writing(target) as fresh:
        for name, folder in parts.items():
            shutil.copytree(folder, fresh / name, dirs_exist_ok=True)


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


def die_with_parent() -> None:
    """Ask the kernel (Linux) for SIGTERM when the process that started us dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _exit_on_sigterm(number: int, _frame: object) -> None:
    sys.exit(128 + number)  # SystemExit unwinds, so that open work is saved or removed
