"""`make serve`: one process that runs the deployments of prefect.yaml without a worker."""

from __future__ import annotations

from prefect import serve
from prefect.flows import EntrypointType
from prefect.settings import PREFECT_API_URL

from pipelines.api import check_api
from pipelines.command import ending_in_one_line
from pipelines.evaluate_ablations import evaluate_ablations
from pipelines.reproduce import reproduce
from pipelines.sample_at_scale import sample_at_scale
from pipelines.train import train

if __name__ == "__main__":
    flows = (reproduce, train, evaluate_ablations, sample_at_scale)
    # By module: for a file Prefect takes the folder from `make deploy`, which sets none.
    by_module = EntrypointType.MODULE_PATH
    with ending_in_one_line():
        if url := PREFECT_API_URL.value():
            check_api(url)
        serve(*(flow.to_deployment("local", entrypoint_type=by_module) for flow in flows))
