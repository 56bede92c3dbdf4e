"""Prefect artifacts of a stage: progress, metrics, tables, pictures."""

from __future__ import annotations

import base64
import contextlib
import csv
import io
import itertools
import json
import math
import re
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import UUID

import httpx
from PIL import Image, ImageOps
from prefect.artifacts import (
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
MAX_PICTURES = 16
MAX_PIXELS = 2**25
SIDE = 240
"""Sides in pixels of the square in which a picture is shown, with the gap to the next one."""
GAP = 4
MAX_BYTES = 100_000
QUALITIES = 85, 70, 50, 30, 10
"""Of JPEG; the first is taken with which an overview is small enough."""


class Progress:
    """Progress artifacts that follow the lines of progress in a stage's output, one per phase."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._of_phase: dict[str, UUID] = {}

    def follow(self, text: str) -> None:
        """Show the progress that a line of output reports, if it does."""
        line = read_line(text)
        if line is None or not line.total:
            return
        percent = min(100.0, 100.0 * line.done / line.total)
        with api_may_fail():
            if artifact := self._of_phase.get(line.name):
                update_progress_artifact(artifact, percent)
            else:
                key = artifact_key(self._stage, line.name, "progress")
                self._of_phase[line.name] = create_progress_artifact(percent, key, line.name)  # type: ignore[assignment]


@contextlib.contextmanager
def api_may_fail() -> Iterator[None]:
    """Continue if the server does not answer, or a file is damaged: artifacts are not results."""
    try:
        yield
    except (PrefectException, httpx.HTTPError, OSError, ValueError, csv.Error) as error:
        get_logger(__name__).warning("not shown in Prefect: %s", str(error).partition("\n")[0])


def publish(stage: str, outs: tuple[Out, ...], root: Path) -> None:
    """Show the outputs of a stage: metrics and tables as tables, and pictures; say where pages are.

    Nothing is a link to a file: browsers do not open those, and on another host they mean nothing.
    """
    with api_may_fail():
        for out in outs:
            path = root / out.path
            key = artifact_key(stage, Path(out.path).stem)
            if out.metric:
                metrics = _flat("", json.loads(path.read_text()))
                rows = [{"metric": name, "value": value} for name, value in metrics]
                create_table_artifact(rows, key, description=out.path)
            elif path.is_dir():
                _publish_folder(key, path, out.path)
            elif path.suffix == ".html":
                where = f"`{path}` on the host {socket.gethostname()}"
                create_markdown_artifact(where, key, description=out.path)


def artifact_key(*parts: str) -> str:
    """Return a key in Prefect's form: lower case, digits and dashes; no part repeats the last."""
    key = ""
    for part in parts:
        slug = re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-")
        if not f"-{key}".endswith(f"-{slug}"):
            key = f"{key}-{slug}".strip("-")
    return key


def _publish_folder(key: str, folder: Path, where: str) -> None:
    texts = sorted(folder.glob("*.md"))
    others = [file for file in sorted(folder.glob("*.csv")) if file.with_suffix(".md") not in texts]
    for file in [*texts, *others][:MAX_TABLES]:
        name = artifact_key(key, file.stem)
        if file.suffix == ".md":
            create_markdown_artifact(file.read_text(), name, description=f"{where}/{file.name}")
        else:
            with file.open(newline="") as lines:
                rows = list(itertools.islice(csv.DictReader(lines), MAX_ROWS))
            create_table_artifact(rows, name, description=f"{where}/{file.name}")
    if pictures := sorted(folder.rglob("*.png")):
        chosen = pictures[:: math.ceil(len(pictures) / MAX_PICTURES)]
        text = f"{where}: {len(chosen)} of {len(pictures)} pictures, in the order of their names"
        data = base64.b64encode(overview(chosen)).decode()
        picture = f"![{text}](data:image/jpeg;base64,{data})"
        create_markdown_artifact(picture, artifact_key(key, "pictures"), description=text)


def overview(pictures: Sequence[Path]) -> bytes:
    """Return a JPEG of at most MAX_BYTES with small versions of pictures, in reading order.

    One that cannot be read, or is too large to be read in a moment, stays white.
    """
    small = [_thumbnail(path) for path in pictures]
    columns = math.ceil(math.sqrt(len(small)))
    height = GAP + max(image.height for image in small)
    sheet = Image.new("RGB", (columns * SIDE, math.ceil(len(small) / columns) * height), "white")
    for number, image in enumerate(small):
        sheet.paste(image, (number % columns * SIDE, number // columns * height))
    for quality in QUALITIES:
        file = io.BytesIO()
        sheet.save(file, "JPEG", quality=quality)
        if file.tell() <= MAX_BYTES:
            break
    return file.getvalue()


def _thumbnail(path: Path) -> Image.Image:
    damaged = OSError, ValueError, SyntaxError, Image.DecompressionBombError  # as Pillow has it
    with contextlib.suppress(*damaged), Image.open(path) as picture:
        if picture.width * picture.height <= MAX_PIXELS:
            return ImageOps.contain(picture.convert("RGB"), (SIDE - GAP, SIDE - GAP))
    return Image.new("RGB", (SIDE - GAP, GAP), "white")


def _flat(name: str, value: object) -> Iterator[tuple[str, object]]:
    """Yield dotted names and values of nested metrics."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}" if name else key, inner)
    else:
        yield name, value
