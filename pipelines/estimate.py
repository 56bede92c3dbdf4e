"""The cost of a run, shown before an expensive flow starts."""

from __future__ import annotations

from pathlib import Path

from prefect.artifacts import create_table_artifact

from patchdm.config import Params

PARAMS = "params.yaml"


def show_estimate(
    root: Path, params: Params, tflops: float, *, samples: int | None = None, cells: int = 0
) -> None:
    """Show the counts and hours of `patchdm plan`.

    Args:
        tflops: 10^12 operations per second that the device achieves.
        samples: images to sample; None: those of params.yaml.
        cells: number of cells of the ablation; each trains and samples once.

    Raises:
        PatchDMError: the photographs cannot be counted.
    """
    # Torch takes seconds to import, which other flows save.
    from patchdm.cli.plan import tabulate, workload  # noqa: PLC0415
    from patchdm.fetch.sources import count  # noqa: PLC0415
    from patchdm.peaks import peaks  # noqa: PLC0415

    if samples is not None:
        sample = params.sample.model_copy(update={"num_images": samples})
        params = params.model_copy(update={"sample": sample})
    load = workload(params, count(params.data, root))
    found = peaks(params, load.training_images)
    table = tabulate(params, load, found, tflops, None).drop(columns="paper")
    rows = [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]
    if cells:
        hours = sum(row["value"] for row in rows if row["unit"] == "h")
        quantity = f"{cells} cells, one after the other"
        rows.append({"quantity": quantity, "value": cells * hours, "unit": "h"})
    create_table_artifact(rows, "estimate", f"Estimate for {PARAMS} at {tflops:g} TFLOP/s achieved")
