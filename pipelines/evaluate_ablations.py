"""Flow evaluate-ablations: every variant at every seed, then the tables that compare them."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from prefect import flow
from prefect.artifacts import create_table_artifact
from pydantic import Field

from patchdm.config import Params, load_params
from pipelines.artifacts import api_may_fail
from pipelines.command import main
from pipelines.engine import bring_up_to_date
from pipelines.errors import FlowError
from pipelines.estimate import PARAMS, show_estimate
from pipelines.orphans import begin
from pipelines.place import Place
from pipelines.workspace import has_remote, preset_params, published

METRICS = Path("reports/ablations")


@flow(name="evaluate-ablations", persist_result=False)
def evaluate_ablations(
    preset: str | None = "study",
    variants: list[str] | None = None,
    samplings: list[str] | None = None,
    seeds: list[int] | None = None,
    place: Place = Place(),  # noqa: B008
    tflops: Annotated[float, Field(gt=0)] = 0.05,
) -> None:
    """Train, sample and evaluate variants of a model, then make the tables and the report.

    Args:
        preset: of presets/, run in a clone of its own (.state/NAME); its results are copied to
            reports/NAME. null: params.yaml as it stands, here.
        variants: of the model, see `ablation` in params.yaml; null: those of the preset.
        samplings: of the networks of the variant full; null: those of the preset.
        seeds: of the trainings; null: those of the preset.
        place: where stages run and how many at a time.
        tflops: 10^12 operations per second that the device achieves, for the estimate.
    """
    here = begin()
    given = {"variants": variants, "samplings": samplings, "seeds": seeds}
    with _chosen(here, preset, given) as (root, params):
        cells = params.ablation.cells
        trained = len(params.ablation.variants) * len(params.ablation.seeds)
        show_estimate(root, params, tflops, cells=trained)
        table = _Table(root, cells)
        up_to = [] if preset else ["ablate_evaluate", "ablate_sample", "tables"]
        pull = preset is not None and has_remote(root)
        bring_up_to_date(up_to, place, root, table.add, pull=pull)


@contextlib.contextmanager
def _chosen(
    here: Path, preset: str | None, given: dict[str, list[str] | list[int] | None]
) -> Iterator[tuple[Path, Params]]:
    """Yield the folder in which all runs, and its parameters."""
    changed = {name: values for name, values in given.items() if values is not None}
    if preset is None:
        if changed:
            raise FlowError(f"preset is null: {PARAMS} has the {' and '.join(changed)}")
        params, name = load_params(here / PARAMS), PARAMS
    else:
        text, params = preset_params(here, preset, changed)
        name = f"presets/{preset}.yaml"
    if not params.ablation.variants:
        raise FlowError(f"{name}: ablation.variants is empty, there is nothing to evaluate")
    if preset is None:
        yield here, params
    else:
        with published(here, preset, text) as folder:
            yield folder, params


class _Table:
    """The artifact `ablation`: the metrics of the cells, which grows as they are done."""

    _COLUMNS = "fid", "kid", "crop_fid", "seam_worst", "seam", "seam_padded"

    def __init__(self, root: Path, cells: list[str]) -> None:
        self._root, self._cells, self._done = root, cells, set[str]()

    def add(self, stages: list[str]) -> None:
        """Show the cells of stages that are done."""
        measured = (re.sub("^ablate_(evaluate|sample)@", "", name) for name in stages)
        found = {*measured} & {*self._cells}
        if not found:
            return
        self._done |= found
        rows = [self._row(cell) for cell in self._cells if cell in self._done]
        with api_may_fail():
            text = f"{len(self._done)} of {len(self._cells)} cells"
            create_table_artifact(rows, "ablation", description=text)

    def _row(self, cell: str) -> dict[str, object]:
        metrics = json.loads((self._root / METRICS / f"{cell}.json").read_text())
        return {"cell": cell} | {name: metrics.get(f"{name}_samples") for name in self._COLUMNS}


if __name__ == "__main__":
    main(evaluate_ablations, sys.argv[1:])
