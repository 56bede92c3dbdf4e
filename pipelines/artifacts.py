"""Prefect artifacts of a stage: progress, metrics, tables, links to pictures."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import httpx
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.exceptions import PrefectException
from prefect.logging import get_logger

from patchdm.console import read_line
from pipelines.graph import Out

MAX_ROWS = 500
MAX_TABLES = 50


class Progress:
    """A progress artifact that follows the lines of progress in a stage's output."""

    def __init__(self, stage: str) -> None:
        self._key = artifact_key(stage, "progress")
        self._artifact: UUID | None = None

    def follow(self, text: str) -> None:
        """Show the progress that a line of output reports, if it does."""
        line = read_line(text)
        if line is None or not line.total:
            return
        percent = min(100.0, 100.0 * line.done / line.total)
        with api_may_fail():
            if self._artifact is None:
                self._artifact = create_progress_artifact(percent, self._key, line.name)
            else:
                update_progress_artifact(self._artifact, percent)


@contextlib.contextmanager
def api_may_fail() -> Iterator[None]:
    """Continue if Prefect's server does not answer: artifacts are not results."""
    try:
        yield
    except (PrefectException, httpx.HTTPError, OSError) as error:
        get_logger(__name__).warning("not shown in Prefect: %s", str(error).partition("\n")[0])


def publish(stage: str, outs: tuple[Out, ...], root: Path) -> None:
    """Show the outputs of a stage: metrics and tables as tables, pages and pictures as links."""
    with api_may_fail():
        for out in outs:
            path = root / out.path
            key = artifact_key(stage, Path(out.path).stem)
            if out.metric:
                metrics = _flat("", json.loads(path.read_text()))
                rows = [{"metric": name, "value": value} for name, value in metrics]
                create_table_artifact(rows, key, description=out.path)
            elif path.is_dir():
                _publish_folder(key, path, root)
            elif path.suffix == ".html":
                create_link_artifact(path.as_uri(), out.path, key, description=stage)


def artifact_key(*parts: str) -> str:
    """Return a key in Prefect's form: lower case, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")


def _publish_folder(key: str, folder: Path, root: Path) -> None:
    texts = sorted(folder.glob("*.md"))
    others = [file for file in sorted(folder.glob("*.csv")) if file.with_suffix(".md") not in texts]
    for file in [*texts, *others][:MAX_TABLES]:
        name, where = artifact_key(key, file.stem), str(file.relative_to(root))
        if file.suffix == ".md":
            create_markdown_artifact(file.read_text(), name, description=where)
        else:
            with file.open(newline="") as lines:
                rows = list(itertools.islice(csv.DictReader(lines), MAX_ROWS))
            create_table_artifact(rows, name, description=where)
    pictures = min(folder.rglob("*.png"), default=None)
    if pictures is not None:
        where = str(pictures.parent.relative_to(root))
        create_link_artifact(pictures.parent.as_uri(), where, key, description="pictures")


def _flat(name: str, value: object) -> Iterator[tuple[str, object]]:
    """Yield dotted names and values of nested metrics."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}" if name else key, inner)
    else:
        yield name, value
