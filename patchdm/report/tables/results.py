"""What the tables read: the metrics of runs, and what a benchmark measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from patchdm.errors import PatchDMError, one_line
from patchdm.report.inputs import read_metrics
from patchdm.report.tables.paper import Source

RESOLUTION_COLUMNS = ("size", "network", "mode", "memory_mib", "seconds_per_step", "machine")
"""Of the table that benchmarks/resolution.py writes."""

_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Student's t at 97.5 % for 1 to 9 degrees of freedom (any table of it); more are taken as 9."""


class Result(NamedTuple):
    """The metrics of a run's samples by their keys: fid, kid, seam, ..."""

    source: Source
    scores: dict[str, float]


class _Metrics(BaseModel):
    model_config = ConfigDict(extra="allow")

    extractor: str
    n_block: int


@dataclass(frozen=True)
class Spread:
    """A metric over training seeds; NaN where it was not measured, or by too few seeds."""

    mean: float
    std: float
    """Of a sample: over the number of seeds less one."""
    least: float

    @property
    def tolerance(self) -> float:
        """What two runs of the same settings may differ by: two standard deviations."""
        return 2 * self.std


class Interval(NamedTuple):
    """A mean with its 95 % interval; NaN where there are too few values."""

    mean: float
    low: float
    high: float


def read_result(path: Path) -> Result:
    """Read metrics.json of a run.

    Raises:
        PatchDMError: the file is missing, no JSON, or lacks a key.
    """
    metrics = read_metrics(path, _Metrics)
    scores = {
        key.removesuffix("_samples"): float(value)
        for key, value in (metrics.model_extra or {}).items()
        if key.endswith("_samples") and isinstance(value, int | float)
    }
    return Result(Source(metrics.extractor, metrics.n_block), scores)


def spread(results: Sequence[Result], key: str) -> Spread:
    """Return a metric over results that differ in the training seed."""
    values = np.array([result.scores.get(key, math.nan) for result in results] or [math.nan])
    std = values.std(ddof=1) if len(values) > 1 else math.nan
    return Spread(_rounded(values.mean()), _rounded(std), _rounded(values.min()))


def difference(results: Sequence[Result], base: Sequence[Result], key: str) -> Interval:
    """Return how much a metric differs between results and a base, paired by training seed.

    What a seed adds to both cancels out. The interval is Student's, of as many seeds.
    """
    values = np.array(
        [
            one.scores.get(key, math.nan) - other.scores.get(key, math.nan)
            for one, other in zip(results, base, strict=True)
        ]
    )
    if len(values) < 2:
        return Interval(_rounded(values.mean()), math.nan, math.nan)
    t = _T95[min(len(values) - 1, len(_T95)) - 1]
    half = t * values.std(ddof=1) / math.sqrt(len(values))
    return Interval(*map(_rounded, (values.mean(), values.mean() - half, values.mean() + half)))


def read_resolutions(path: Path) -> pd.DataFrame:
    """Read what was measured of memory and time, a row a size, network and mode.

    Raises:
        PatchDMError: the file is missing, or no such table.
    """
    try:
        table = pd.read_csv(path, index_col=False)  # else a surplus cell shifts the columns
    except OSError as error:
        raise PatchDMError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:  # what pandas raises for each kind of damage
        raise PatchDMError(f"{path}: not a table: {one_line(error)}") from None
    if missing := set(RESOLUTION_COLUMNS) - set(table.columns):
        raise PatchDMError(f"{path}: found no column {', '.join(sorted(missing))}")
    return table[list(RESOLUTION_COLUMNS)]


def _rounded(value: float) -> float:
    """Keep six digits: the last ones of a mean differ between machines."""
    return float(f"{value:.6g}")
