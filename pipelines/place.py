"""Where stages run: the parameters that all flows share."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from pydantic import BaseModel, ConfigDict, Field

from pipelines.errors import FlowError

CONNECT_SECONDS = 10


class Place(BaseModel):
    """Where stages run and how many at a time."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    concurrency: Annotated[int, Field(ge=1, le=1024)] = 2
    """Stages that run at the same time. Each uses `base.threads` CPU threads."""
    runner: Literal["threads", "workers", "dask", "ray"] = "threads"
    """Who runs the stages: threads of the flow, Prefect workers of the pool `clones`, Dask or Ray
    (extras `patchdm[dask]` and `patchdm[ray]`)."""
    address: str | None = None
    """A running Dask or Ray cluster, each host in its own clone; null: a cluster on this host."""
    gpu_slot: str | None = None
    """Prefect concurrency limit, which must exist, of which stages with `meta: {gpu: true}` in
    dvc.yaml and shards of samples take a slot; null: none."""
    num_gpus: Annotated[float, Field(ge=0)] = 0
    """GPUs that Ray gives to each of these."""

    @property
    def has_clones(self) -> bool:
        """Whether stages run in clones instead of the flow's tree."""
        return self.address is not None or self.runner == "workers"


def task_runner(place: Place) -> TaskRunner[Any]:
    """Return the task runner of a place; refuse one that is not installed or not running."""
    if place.runner in {"threads", "workers"}:
        if place.address is not None:
            raise FlowError(f"place.address goes with place.runner dask or ray, not {place.runner}")
        return ThreadPoolTaskRunner(max_workers=place.concurrency)
    if place.address is not None:
        _check_address(place.address)
    try:
        return _dask(place) if place.runner == "dask" else _ray(place)
    except ImportError as error:
        raise FlowError(
            f"place.runner is {place.runner}: {error.name} is not installed, "
            f"`pip install 'patchdm[{place.runner}]'`"
        ) from None


def _check_address(address: str) -> None:
    """Refuse an address where nothing listens; Dask and Ray would try for minutes."""
    where = urlsplit(address if "//" in address else f"//{address}")
    try:
        with socket.create_connection((where.hostname, where.port), timeout=CONNECT_SECONDS):
            pass
    except (OSError, ValueError) as error:
        raise FlowError(
            f"place.address is {address}, expected HOST:PORT of a running cluster: {error}"
        ) from None


def gpus(place: Place) -> contextlib.AbstractContextManager[Any]:
    """Return the context in which Ray gives a task the GPUs of a place."""
    if place.runner != "ray" or not place.num_gpus:
        return contextlib.nullcontext()
    from prefect_ray.context import remote_options  # noqa: PLC0415 - an extra

    return remote_options(num_gpus=place.num_gpus)


def _dask(place: Place) -> TaskRunner[Any]:
    from prefect_dask.task_runners import DaskTaskRunner  # noqa: PLC0415 - an extra

    workers = {"n_workers": place.concurrency, "threads_per_worker": 1, "dashboard_address": None}
    return DaskTaskRunner(address=place.address, cluster_kwargs=None if place.address else workers)


def _ray(place: Place) -> TaskRunner[Any]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read as Ray is imported
    from prefect_ray import RayTaskRunner  # noqa: PLC0415 - an extra

    cluster = {"num_cpus": place.concurrency, "include_dashboard": False}
    return RayTaskRunner(address=place.address, init_kwargs=None if place.address else cluster)
