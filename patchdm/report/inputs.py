"""What the report reads: metrics, tables, training curves, sheets, weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError, safe_open

from patchdm.errors import PatchDMError, one_line
from patchdm.files import sha256
from patchdm.formats.images import Pixels, read_image

BUFFERS = frozenset({"whitening.mean", "whitening.projection", "scale.mean", "scale.std"})
"""Tensors of our networks that are measured, not learned; torch's own modules have none here."""
FINDINGS = ("duplicates", "quarantine", "enlarged")
"""Tables of a patch store about its photographs."""
_Kind = TypeVar("_Kind", bound=BaseModel)


class Nearness(BaseModel):
    """How near samples lie to the training images, compared with held-out photographs."""

    nearer_than_held_out: float
    median_samples: float
    median_held_out: float


class Metrics(BaseModel):
    """What the report takes from metrics.json; the file may hold more."""

    fid_samples: float
    fid_blurred: float
    fid_test: float
    kid_samples: float
    kid_std_samples: float
    kid_blurred: float
    kid_test: float
    kid_unseen_samples: float
    kid_unseen_real: float
    seam_samples: float
    seam_real: float
    seam_padded_samples: float
    seam_padded_real: float
    seam_worst_samples: float
    seam_worst_test: float
    seam_mean_samples: float
    n_samples: int
    n_train: int
    n_test: int
    extractor: str
    extractor_weights_hash: str
    resizer: str
    kid_subset_size: int
    nearest: dict[str, Nearness]
    data_hash: str
    params_hash: str
    git_revision: str


class CodeHealth(BaseModel):
    """How sampled codes compare with the training codes: see `patchdm.metrics.codes`."""

    mean_error: float
    std_ratio: float
    nearest: float
    nearest_training: float


class Cell(BaseModel):
    """What the report takes from the metrics of a cell of the ablation."""

    fid_samples: float
    seam_worst_samples: float
    extractor: str
    n_block: int
    unet_weights_hash: str


@dataclass(frozen=True)
class Weights:
    """A weights file: its name (that of its folder), how many parameters it has, its SHA-256."""

    name: str
    count: int
    sha256: str


def read_metrics(path: Path, kind: type[_Kind]) -> _Kind:
    """Read the metrics of a run, `Metrics`, or of a cell, `Cell`.

    Raises:
        PatchDMError: the file is missing, no JSON, or lacks a number.
    """
    try:
        return kind.model_validate_json(_existing(path).read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise PatchDMError(f"{path}: {key + ': ' if key else ''}{first['msg']}") from None


def read_table(path: Path) -> pd.DataFrame:
    """Read metrics.csv, indexed by the name of the set; columns name the extractor: `FID-NAME`.

    Raises:
        PatchDMError: the file is missing or not such a table.
    """
    try:
        table = pd.read_csv(_existing(path), index_col="set").astype(float)
    except ValueError as error:  # what pandas raises for each kind of damage
        raise PatchDMError(f"{path}: not a table of numbers by set: {one_line(error)}") from None
    if table.empty:
        raise PatchDMError(f"{path}: found no rows")
    if not any(name.startswith("FID-") for name in table.columns):
        raise PatchDMError(f"{path}: found no column FID-EXTRACTOR, only {list(table.columns)}")
    return table


def read_frame(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a table that has at least these columns.

    Raises:
        PatchDMError: the file is missing or not such a table.
    """
    try:
        options: dict[str, Any] = {"keep_default_na": False, "na_values": [""]}
        table = pd.read_csv(_existing(path), index_col=False, **options)  # surplus cells shift none
    except ValueError as error:
        raise PatchDMError(f"{path}: not a table: {one_line(error)}") from None
    if missing := [name for name in columns if name not in table.columns]:
        raise PatchDMError(f"{path}: found no column {', '.join(missing)}")
    if table.empty:
        raise PatchDMError(f"{path}: found no rows")
    return table


def read_findings(folder: Path) -> dict[str, int]:
    """Return how many photographs the patch store's tables list: name of the table -> rows.

    Raises:
        PatchDMError: a table is missing or not one.
    """
    found = {}
    for name in FINDINGS:
        try:
            found[name] = len(pd.read_csv(_existing(folder / f"{name}.csv"), index_col=False))
        except ValueError as error:
            raise PatchDMError(f"{folder / name}.csv: not a table: {one_line(error)}") from None
    return found


def read_authors(location: Path) -> dict[str, str]:
    """Return who made the photographs of an archive or a folder: file -> author.

    The CSV next to the archive says it, or credits.csv in the folder.
    """
    path = location / "credits.csv" if location.is_dir() else location.with_suffix(".csv")
    table = read_frame(path, ["file"]).fillna("") if path.is_file() else pd.DataFrame()
    return dict(zip(table["file"], table["author"], strict=True)) if "author" in table else {}


def read_curves(folder: Path, required: Sequence[str]) -> dict[str, pd.Series]:
    """Read all curves of a training, NAME.tsv: series over the images or codes seen, by name.

    Raises:
        PatchDMError: a required curve is missing, or one is empty or damaged.
    """
    paths = {path.stem: path for path in sorted(folder.glob("*.tsv"))}
    paths |= {name: folder / f"{name}.tsv" for name in required}
    return {name: _read_curve(path) for name, path in paths.items()}


def read_sheets(folder: Path, most: int) -> dict[int, Pixels]:
    """Read at most so many sheets of a training, such as 000025600.png, by the images seen.

    The first, the last, and evenly between.

    Raises:
        PatchDMError: there is none, or one is damaged or wrongly named.
    """
    paths = {_images_seen(path): path for path in sorted(folder.glob("*.png"))}
    if not paths:
        raise PatchDMError(f"{folder}: found no sheets of samples, {_REMEDY}")
    seen, count = sorted(paths), min(most, len(paths))
    chosen = [seen[round(i * (len(seen) - 1) / max(count - 1, 1))] for i in range(count)]
    return {number: read_image(paths[number]) for number in chosen}


def read_weights(folder: Path) -> list[Weights]:
    """Return every safetensors file below a folder, without loading it.

    Raises:
        PatchDMError: there is none, or one is damaged.
    """
    return [
        Weights(path.parent.name.replace("_", " "), _learned(path), sha256(path))
        for path in _weights_files(folder)
    ]


def count_parameters(folder: Path) -> int:
    """Return how many numbers were learned of those that the weights below a folder hold.

    Raises:
        PatchDMError: there is none, or one is damaged.
    """
    return sum(_learned(path) for path in _weights_files(folder))


_REMEDY = "run the stage that writes it (`dvc repro`)"


def _weights_files(folder: Path) -> list[Path]:
    if not (paths := sorted(folder.rglob("*.safetensors"))):
        raise PatchDMError(f"{folder}: found no weights, {_REMEDY}")
    return paths


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise PatchDMError(f"{path}: not found, {_REMEDY}")
    return path


def _read_curve(path: Path) -> pd.Series:
    try:
        table = pd.read_csv(_existing(path), sep="\t", usecols=["step", path.stem], dtype=float)
    except ValueError as error:
        raise PatchDMError(f"{path}: not a training curve: {one_line(error)}") from None
    if table.empty:
        raise PatchDMError(f"{path}: found no points")
    return table.set_index("step")[path.stem]


def _images_seen(path: Path) -> int:
    if not path.stem.isdecimal():
        raise PatchDMError(f"{path}: found this name, expected digits: the images seen")
    return int(path.stem)


def _learned(path: Path) -> int:
    """Return how many numbers of a file were learned."""
    try:
        with safe_open(path, framework="numpy") as file:
            names = [name for name in file.keys() if name not in BUFFERS]  # noqa: SIM118 - no mapping
            return sum(math.prod(file.get_slice(name).get_shape()) for name in names)
    except SafetensorError as error:
        raise PatchDMError(f"{path}: damaged weights: {one_line(error)}") from None
