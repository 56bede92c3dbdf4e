"""Several processes train one model, under DVC's eyes."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.pipelines import services, toy

pytestmark = pytest.mark.slow

STAGE = "train_patchdm"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = services.clone(tmp_path_factory.mktemp("train") / "clone")
    params = folder / "params.yaml"
    longer = params.read_text().replace("images_seen: 256", "images_seen: 2048")
    params.write_text(longer.replace("processes: null", "processes: 2"))
    toy.run(folder, "dvc", "repro", "-q", "cache_features")
    return folder


def ranks(family: list[psutil.Process]) -> list[psutil.Process]:
    """Return the processes that train."""
    stages = [process for process in family if process.cmdline()[-2:] == ["-m", f"stages.{STAGE}"]]
    return [process for process in stages if "RANK" in process.environ()]


def test_two_processes_train_and_none_is_left_of_a_killed_flow(clone: Path):
    env = toy.environment(PREFECT_HOME=str(clone.with_name("home")), DO_NOT_TRACK="1")
    command = ["python", "-m", "pipelines.train"]
    log = clone.with_name("train.log")
    with log.open("w") as out:
        flow = subprocess.Popen(command, cwd=clone, env=env, stdout=out, stderr=out)
    services.wait_for(
        lambda: any(clone.glob(f".state/{STAGE}/*/*.pt")), 240, f"a checkpoint, see {log}"
    )
    family = services.descendants(psutil.Process(flow.pid))
    assert len(ranks(family)) == 2
    for rank in ranks(family):  # and they talk to each other
        assert any(found.status == "ESTABLISHED" for found in rank.net_connections("tcp"))
    flow.send_signal(signal.SIGKILL)
    flow.wait()
    services.wait_for(lambda: services.alive(family) == [], 5, "end of all processes")

    toy.run(clone, *command, env=env)
    assert toy.run(clone, "dvc", "status", "train_latent", STAGE).startswith("Data and pipelines")
    assert (clone / "data/models/patchdm/unet/config.json").is_file()
    done = toy.lock(clone)["stages"]
    assert {out["path"] for out in done[STAGE]["outs"]} == {
        "data/models/patchdm",
        "reports/curves/patchdm",
    }
