"""The cost of a run, shown before an expensive flow starts."""

from __future__ import annotations

from pathlib import Path

from prefect.artifacts import create_table_artifact

from patchdm.config import Params, load_params
from patchdm.errors import PatchDMError
from pipelines.errors import FlowError

PARAMS = "params.yaml"


def read_params(root: Path) -> Params:
    """Read params.yaml.

    Raises:
        FlowError: it is missing or wrong.
    """
    try:
        return load_params(root / PARAMS)
    except PatchDMError as error:
        raise FlowError(str(error)) from None


def show_estimate(
    root: Path, params: Params, tflops: float, *, samples: int | None = None, cells: int = 0
) -> None:
    """Show the counts and hours of `patchdm plan`.

    Args:
        root: of the repository.
        params: the run.
        tflops: 10^12 operations per second that the device achieves.
        samples: images to sample; None: those of params.yaml.
        cells: number of cells of the ablation; each trains and samples once.

    Raises:
        FlowError: the photographs cannot be counted.
    """
    # Torch takes seconds to import, which other flows save.
    from patchdm.cli.plan import tabulate, workload  # noqa: PLC0415
    from patchdm.fetch.sources import count  # noqa: PLC0415

    try:
        photographs = count(params.data, root)
    except PatchDMError as error:
        raise FlowError(str(error)) from None
    if samples is not None:
        sample = params.sample.model_copy(update={"num_images": samples})
        params = params.model_copy(update={"sample": sample})
    table = tabulate(params, workload(params, photographs), tflops, None).drop(columns="paper")
    rows = table.to_dict("records")
    if cells:
        hours = sum(row["value"] for row in rows if row["unit"] == "h")
        quantity = f"{cells} cells, one after the other"
        rows.append({"quantity": quantity, "value": cells * hours, "unit": "h"})
    description = f"Estimate for params.yaml at {tflops:g} TFLOP/s achieved"
    create_table_artifact(rows, "estimate", description)
