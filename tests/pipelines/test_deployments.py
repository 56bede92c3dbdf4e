"""The README's lines against a real server and a real worker, as `make` starts them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.pipelines import services, toy

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return services.clone(tmp_path_factory.mktemp("deployments") / "clone")


@pytest.fixture(scope="module")
def server(clone: Path) -> Iterator[services.Server]:
    """A server that knows the flows."""
    with services.server(clone, clone.parent / "home") as server:
        for _ in range(2):  # once more does no harm
            toy.run(clone, "make", "deploy", env=server.env)
        yield server


def test_all_flows_are_deployed_once_with_limit_and_automation(server: services.Server):
    def names(what: str) -> list[str]:
        found = httpx.post(f"{server.url}/{what}/filter", json={}).raise_for_status().json()
        return sorted(entry["name"] for entry in found)

    assert names("automations") == ["crashed", "not loaded"]
    assert "gpu" in names("v2/concurrency_limits")  # in addition to those of deployments
    assert names("work_pools") == ["clones", "local"]
    flows = ["evaluate-ablations", "reproduce", "sample-at-scale", "stage", "train"]
    assert names("flows") == flows
    assert names("deployments") == ["clone"] + ["local"] * 4


def test_the_lines_of_the_readme_run(server: services.Server, clone: Path):
    with services.worker(server, clone):
        run = server.start_run("reproduce/local", "--param", 'up_to=["extract_patches"]')
        assert server.ended(run, 300)[0] == "COMPLETED"
        assert (clone / "data/patches").is_dir()

        run = server.start_run("evaluate-ablations/local")
        kind, message = server.ended(run, 120)
        assert kind == "FAILED"
        assert "ablation.variants is empty" in message

        run = server.start_run("reproduce/local", "--param", 'up_to=["trane"]')
        kind, message = server.ended(run, 120)
        assert kind == "FAILED"
        assert "no stage 'trane', expected" in message
        assert "\n" not in message


def test_the_ablation_is_evaluated(server: services.Server, clone: Path):
    params = clone / "params.yaml"
    before = params.read_text()
    cells = before.replace("variants: []", "variants: [full, no-code]")
    params.write_text(cells.replace("seeds: []", "seeds: [1]"))
    with services.worker(server, clone):
        run = server.start_run("evaluate-ablations/local")
        kind, message = server.ended(run, 600)
    assert kind == "COMPLETED", message
    names = {path.name for path in (clone / "reports/ablations").iterdir()}
    assert {"full-1.json", "no-code-1.json"} <= names
    found = httpx.post(f"{server.url}/artifacts/filter", json={}).raise_for_status().json()
    assert any(entry["key"] == "estimate" for entry in found if entry["flow_run_id"] == run)
    params.write_text(before)


def test_wrong_parameters_are_refused_by_the_server(server: services.Server):
    for parameter in ('place={"concurrency": 0}', 'place={"runner": "slurm"}', "up_two=[]"):
        command = ["prefect", "deployment", "run", "reproduce/local", "--param", parameter]
        done = subprocess.run(command, env=server.env, capture_output=True, text=True, check=False)
        assert done.returncode != 0, done.stdout


def test_a_worker_outside_a_clone_says_so(server: services.Server, tmp_path: Path, clone: Path):
    (tmp_path / "Makefile").write_bytes((clone / "Makefile").read_bytes())
    (tmp_path / ".venv").symlink_to(clone / ".venv")
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    (clone / ".venv/installed").touch()
    with services.worker(server, tmp_path):
        run = server.start_run("reproduce/local")
        services.wait_for(lambda: server.state(run)[0] == "FAILED", 120, "failure")
    message = server.state(run)[1]
    assert message.startswith("The worker cannot load the flow, start it with `make worker`")
    assert "\n" not in message
    assert "pipelines/reproduce.py" in " ".join(server.logs(run))


def test_serve_stands_for_deploy_and_worker(server: services.Server, clone: Path):
    log = clone.with_name("serve.log")
    with services.running(clone, log, "make", "serve", env=server.env):
        services.wait_for(lambda: "being served" in log.read_text(), 120, f"serve, see {log}")
        run = server.start_run("reproduce/local", "--param", 'up_to=["download"]')
        assert server.ended(run, 300)[0] == "COMPLETED"
    assert (clone / "data/raw").is_dir()
