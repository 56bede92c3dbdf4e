"""Shards are the images of one command, whatever was killed or damaged before."""

from __future__ import annotations

import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pandas as pd
import pytest

from patchdm.formats.shards import read_manifest
from tests.pipelines import services, toy

pytestmark = pytest.mark.slow

SEEDS = "0:20"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with trained models."""
    folder = services.clone(tmp_path_factory.mktemp("sampling") / "clone")
    toy.run(folder, "dvc", "repro", "-q", "train_latent")
    return folder


@pytest.fixture(scope="module")
def expected(clone: Path) -> pd.Series:
    """Hashes by seed of the images that `patchdm sample` makes."""
    command = ["patchdm", "sample", "data/models", "--seeds", SEEDS, "--out", "expected"]
    toy.run(clone, *command, "--steps", "4")
    return hashes(clone / "expected")


def hashes(folder: Path) -> pd.Series:
    """Return the hash of every image that a manifest lists, by seed."""
    manifest = read_manifest(folder)
    assert all((folder / row.shard / row.file).is_file() for row in manifest.itertuples())
    return manifest.set_index("seed")["sha256"]


def flow(clone: Path, out: str, *parameters: str) -> tuple[list[str], dict[str, str]]:
    """Return the flow's command line and its environment."""
    env = toy.environment(PREFECT_HOME=str(clone.parent / "home"), DO_NOT_TRACK="1")
    command = ["python", "-m", "pipelines.sample_at_scale", f"seeds={SEEDS}", f"out={out}"]
    return [*command, "shards=3", "sampling.steps=4", *parameters], env


def test_a_killed_flow_goes_on_and_damage_is_repaired(clone: Path, expected: pd.Series):
    command, env = flow(clone, "out")
    with (clone.parent / "killed.log").open("w") as log:
        killed = subprocess.Popen(command, cwd=clone, env=env, stdout=log, stderr=log)
    services.wait_for(lambda: any(clone.glob("out/*/*/*.png")), 120, f"images, see {log.name}")
    killed.send_signal(signal.SIGKILL)
    killed.wait()

    toy.run(clone, *command, env=env)
    assert sorted(folder.name for folder in (clone / "out").iterdir() if folder.is_dir()) == [
        "000000", "000006", "000013"
    ]  # fmt: skip
    assert hashes(clone / "out").equals(expected)

    damaged = min(clone.glob("out/000006/*/*.png"))
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-1])
    toy.run(clone, *command, env=env)
    assert damaged.read_bytes() == whole


def test_dask_workers_of_other_folders_share_the_work(
    clone: Path, expected: pd.Series, tmp_path: Path
):
    port = services.free_port()
    address = f"tcp://127.0.0.1:{port}"
    out, model = f"{tmp_path}/out", f"model={clone}/data/models"
    command, env = flow(clone, out, model, "place.runner=dask", f"place.address={address}")
    scheduler = ["dask", "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    worker = ["dask", "worker", address, "--nthreads", "1", "--no-dashboard"]
    with ExitStack() as stack:
        for number, service in enumerate((scheduler, worker, worker)):
            folder = tmp_path / str(number)
            folder.mkdir()
            log = tmp_path / f"{number}.log"
            stack.enter_context(services.running(folder, log, *service, env=env))
        toy.run(clone, *command, env=env)
    assert hashes(Path(out)).equals(expected)
