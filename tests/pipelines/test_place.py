from __future__ import annotations

import sys

import pytest
from prefect_ray.context import RemoteOptionsContext

from pipelines.errors import FlowError
from pipelines.place import Place, gpus, task_runner


@pytest.mark.parametrize("runner", ["dask", "ray"])
def test_a_runner_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, runner: str):
    monkeypatch.setitem(sys.modules, f"prefect_{runner}", None)
    with pytest.raises(FlowError, match=rf"place.runner is {runner}: .*'patchdm\[{runner}\]'`$"):
        task_runner(Place(runner=runner))


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "127.0.0.1:9", "nowhere", "h:x"])
def test_nobody_at_an_address_is_said_at_once(address: str):
    message = f"^place.address is {address}, expected HOST:PORT of a running cluster: .*"
    with pytest.raises(FlowError, match=message):
        task_runner(Place(runner="dask", address=address))


def test_ray_gives_gpus_to_a_task():
    with gpus(Place(runner="ray", num_gpus=0.5)):
        assert RemoteOptionsContext.get().current_remote_options == {"num_gpus": 0.5}
    with gpus(Place(runner="threads", num_gpus=0.5)), gpus(Place(runner="ray")):
        assert RemoteOptionsContext.get().current_remote_options == {}
