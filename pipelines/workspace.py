"""A preset run beside params.yaml: a clone of the commit in .state/NAME has its own files.

So params.yaml, dvc.lock, data/ and reports/ of the repository stay those of its own run. The clone
shares the cache, so a stage that has run here with these inputs is taken from it, and knows the
remotes, for `dvc push` and for flows on many hosts.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo
from prefect import get_run_logger
from ruamel.yaml import YAML

from patchdm.config import Params, checked_params
from patchdm.files import replacing
from pipelines.errors import FlowError
from pipelines.git import git

PRESETS = Path("presets")
STATE = Path(".state")
REPORTS = Path("reports")
SOURCES = Path("data/sources")
"""Where photographs lie that a user put there: Git and DVC leave them alone."""
PARAMS = "params.yaml"
RESULTS = (
    PARAMS,
    "dvc.lock",
    "reports/metrics.json",
    *(f"reports/{name}" for name in ("tables", "paper", "ablations", "applications", "figures")),
)
"""What `publish` copies: small files that tell what was run and found."""


def preset_params(root: Path, preset: str, ablation: Mapping[str, Any]) -> tuple[str, Params]:
    """Return a preset with other values in its section `ablation`: its text, and as it was checked.

    Raises:
        PatchDMError: there is no such preset, or a value in it is wrong.
    """
    file = root / PRESETS / f"{preset}.yaml"
    known = sorted(path.stem for path in (root / PRESETS).glob("*.yaml"))
    if preset not in known:
        raise FlowError(f"preset is {preset!r}, expected {', '.join(known)} or null")
    yaml, text = YAML(), io.StringIO()
    values = yaml.load(file)
    values["ablation"].update(ablation)
    yaml.dump(values, text)
    return text.getvalue(), checked_params(values, file)


@contextlib.contextmanager
def workspace(root: Path, preset: str, params: str) -> Iterator[Path]:
    """Yield the clone in which a preset runs, at the commit of a repository.

    Args:
        root: the repository.
        preset: name of the clone in .state/.
        params: text of its params.yaml.

    Raises:
        FlowError: another flow works there, or Git or DVC refuses.
    """
    folder = root / STATE / preset
    folder.parent.mkdir(exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise FlowError(f"{folder}: another flow works there, wait for it or end it") from None
        lay_out(root, folder, params)
        yield folder


def lay_out(root: Path, folder: Path, params: str) -> None:
    """Make a folder a clone of a repository at its commit, with a params.yaml of its own.

    An older clone follows the commit, and keeps what DVC has recorded of its run.

    Raises:
        FlowError: Git or DVC refuses.
    """
    if not folder.is_dir():
        with replacing(folder) as fresh:
            git(root, "clone", "--quiet", str(root), str(fresh))
    git(folder, "fetch", "--quiet", str(root), "HEAD")
    git(folder, "reset", "--quiet", "FETCH_HEAD")
    # DVC's record of what has run stays, and with it all that is not of the commit.
    git(folder, "checkout", "--quiet", "--", ".", ":!dvc.lock")
    git(folder, "clean", "-fdq", "--exclude", "dvc.lock")
    with replacing(folder / PARAMS) as fresh:
        fresh.write_text(params, encoding="utf-8")
    if (root / SOURCES).is_dir() and not (folder / SOURCES).exists():
        (folder / SOURCES).parent.mkdir(exist_ok=True)
        (folder / SOURCES).symlink_to((root / SOURCES).resolve())
    _share_storage(root, folder)


@contextlib.contextmanager
def published(root: Path, preset: str, params: str) -> Iterator[Path]:
    """Yield the clone as `workspace` does; copy its results to reports/NAME if nothing fails."""
    with workspace(root, preset, params) as folder:
        yield folder
        publish(folder, root / REPORTS / preset)
        get_run_logger().info("results are in %s/%s, the report in %s", REPORTS, preset, folder)


def has_remote(folder: Path) -> bool:
    """Say whether a repository has a default remote, which may have results of other hosts."""
    with Repo(str(folder)) as repo:
        return bool(repo.config["core"].get("remote"))


def publish(folder: Path, place: Path) -> None:
    """Copy the results of a workspace to a folder, where other files stay."""
    place.mkdir(parents=True, exist_ok=True)
    for name in RESULTS:
        if not (folder / name).exists():
            continue
        with replacing(place / Path(name).name) as fresh:
            copy = shutil.copytree if (folder / name).is_dir() else shutil.copy2
            copy(folder / name, fresh)


def _share_storage(root: Path, folder: Path) -> None:
    """Give a clone the cache and the remotes of a repository, also those of its host alone."""
    try:
        with (
            Repo(str(root)) as repo,
            Repo(str(folder)) as clone,
            clone.config.edit("local") as config,
        ):
            config["cache"]["dir"] = repo.cache.local_cache_dir
            config["remote"] = {name: dict(each) for name, each in repo.config["remote"].items()}
            if default := repo.config["core"].get("remote"):
                config["core"]["remote"] = default
    except DvcException as error:
        raise FlowError(f"{folder}: {error}") from None
