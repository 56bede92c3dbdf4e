"""prefect.yaml against what Prefect knows of its worker types."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import prefect
import pytest
from prefect.flows import Flow
from ruamel.yaml import YAML

from tests.conftest import REPO

FILE = YAML(typ="safe").load(REPO / "prefect.yaml")
KNOWN_LATER = {"container_create_kwargs"}
"""Of prefect-docker, newer than the list that Prefect contains."""


def variables(kind: str) -> dict[str, Any]:
    """Return the schema of a worker type's job variables."""
    folder = Path(prefect.__file__).parent / "server/api/collections_data/views"
    collections = json.loads((folder / "aggregate-worker-metadata.json").read_text())
    (worker,) = [found[kind] for found in collections.values() if kind in found]
    return worker["default_base_job_configuration"]["variables"]["properties"]


@pytest.mark.parametrize("kind", ["docker", "kubernetes"])
def test_templates_of_containers_name_what_their_workers_know(kind: str):
    template = FILE["definitions"]["work_pools"][kind]
    known = variables(kind)
    assert template["job_variables"].keys() <= known.keys() | KNOWN_LATER
    policy = template["job_variables"].get("image_pull_policy", "Always")
    assert policy in known["image_pull_policy"]["enum"]


def test_every_deployment_is_a_flow():
    for deployment in FILE["deployments"]:
        file, name = deployment["entrypoint"].split(":")
        flow = getattr(import_module(file.removesuffix(".py").replace("/", ".")), name)
        assert isinstance(flow, Flow)
        assert deployment["work_pool"]["name"] in {"local", "clones"}
