"""The README's lines against a real server and a real worker, as `make` starts them."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.pipelines import services, toy
from tests.stages.models import write_params
from tests.stages.tiny import tiny_params

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return services.clone(tmp_path_factory.mktemp("deployments") / "clone")


@pytest.fixture(scope="module")
def server(clone: Path) -> Iterator[services.Server]:
    """A server that knows the flows."""
    with services.server(clone, clone.parent / "home") as server:
        for _ in range(2):  # once more does no harm
            said = toy.run(clone, "make", "deploy", env=server.env)
            assert said.splitlines()[-1] == f"export PREFECT_API_URL={server.url}"
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

        run = server.start_run("evaluate-ablations/local", "--param", "preset=null")
        kind, message = server.ended(run, 120)
        assert kind == "FAILED"
        assert "ablation.variants is empty" in message

        run = server.start_run("reproduce/local", "--param", 'up_to=["trane"]')
        kind, message = server.ended(run, 120)
        assert kind == "FAILED"
        assert "no stage 'trane', expected" in message
        assert "\n" not in message
        (line,) = [line for line in server.logs(run) if "trane" in line]
        assert line.startswith("dvc.yaml: no stage 'trane', expected")


def test_the_ablation_is_evaluated(server: services.Server, clone: Path):
    """A preset in its own clone; the same again does nothing, also after its worker was killed."""
    before = (clone / "params.yaml").read_bytes()
    tiny = tiny_params(ablation={"variants": ["full", "no-position", "no-code"], "seeds": [0]})
    write_params(clone / "presets/study.yaml", tiny)
    cells = ["--param", 'variants=["full","no-code"]', "--param", "seeds=[1]"]
    work = clone / ".state/study"
    with services.worker(server, clone):
        run = server.start_run("evaluate-ablations/local", *cells)
        services.wait_for((work / "data/patches").is_dir, 300, "patches")
    with services.worker(server, clone):
        run = server.start_run("evaluate-ablations/local", *cells)
        kind, message = server.ended(run, 600)
        assert kind == "COMPLETED", message
        results = clone / "reports/study"
        assert {path.name for path in (results / "ablations").iterdir()} >= {
            "full-1.json", "no-code-1.json",
        }  # fmt: skip
        assert (work / "reports/index.html").is_file()
        found = httpx.post(f"{server.url}/artifacts/filter", json={}).raise_for_status().json()
        ours = {entry["key"]: entry for entry in found if entry["flow_run_id"] == run}
        assert "estimate" in ours
        assert "2 of 2 cells" in {e["description"] for e in found if e["key"] == "ablation"}
        record = (work / "dvc.lock").read_bytes()
        run = server.start_run("evaluate-ablations/local", *cells)
        assert server.ended(run, 120)[0] == "COMPLETED"
        assert not [line for line in server.logs(run) if "Running stage" in line]
    assert (work / "dvc.lock").read_bytes() == record
    assert (clone / "params.yaml").read_bytes() == before
    assert not (clone / "data/models").exists()


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


def test_serve_is_deploy_and_worker_also_beside_another_worker(
    server: services.Server, clone: Path
):
    log = clone.with_name("serve.log")
    with (
        services.worker(server, clone),
        services.running(clone, log, "make", "serve", env=server.env),
    ):
        services.wait_for(lambda: "started!" in log.read_text(), 240, f"serve, see {log}")
        for _ in range(2):  # whoever takes it
            run = server.start_run("reproduce/local", "--param", 'up_to=["download"]')
            assert server.ended(run, 300)[0] == "COMPLETED"
    assert (clone / "data/raw").is_dir()
    found = httpx.get(f"{server.url}/deployments/name/reproduce/local").raise_for_status().json()
    (step,) = found["pull_steps"]
    assert "prefect.deployments.steps.set_working_directory" in step
    assert found["global_concurrency_limit"]["limit"] == 1


def test_a_worker_ends_though_its_server_is_gone(clone: Path, tmp_path: Path):
    with services.server(clone, tmp_path / "home") as server:
        toy.run(clone, "prefect", "work-pool", "create", "-t", "process", "local", env=server.env)
        with services.worker(server, clone) as worker:
            process = services.worker_process(worker)
            for member in [*services.descendants(server.process), server.process]:
                services.kill(member)
            time.sleep(3)
            for member in [process, process.parent()]:  # Ctrl-C
                member.send_signal(signal.SIGINT)
            services.wait_for(lambda: services.alive([process]) == [], 5, "end of the worker")
