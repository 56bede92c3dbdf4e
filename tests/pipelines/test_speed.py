"""The cost of a flow compared with `dvc repro`, and the gain of stages that run at the same time.

Needs two cores to itself; `pytest -m slow -s` prints the figures.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from datetime import datetime
from pathlib import Path

import pytest

from tests.pipelines import services, toy

pytestmark = pytest.mark.slow

STAGES = 15
CHAIN = "stages:\n" + "".join(
    f"  s{n:02}:\n    cmd: cat s{n - 1:02}.txt > s{n:02}.txt\n    deps: [s{n - 1:02}.txt]\n"
    f"    outs: [s{n:02}.txt]\n"
    for n in range(1, STAGES + 1)
)


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """A chain of stages that do nothing."""
    repo = toy.make(tmp_path / "chain", CHAIN)
    (repo / "s00.txt").touch()
    return repo


def timed(folder: Path, *command: str, home: Path | None = None) -> tuple[float, str]:
    """Return the seconds a command took, and its output."""
    env = toy.environment(PREFECT_HOME=str(home), DO_NOT_TRACK="1")
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return time.perf_counter() - start, done.stdout + done.stderr


def logged(output: str, mark: str) -> float:
    """Return when the first line with a mark was logged, in seconds since midnight."""
    found = re.search(rf"^(\d+):(\d+):([\d.]+) \| .*{mark}", output, re.MULTILINE)
    assert found, output
    hours, minutes, seconds = map(float, found.groups())
    return 3600 * hours + 60 * minutes + seconds


def now() -> float:
    """Return seconds since midnight, as Prefect logs them."""
    moment = datetime.now()  # noqa: DTZ005 - local time
    return (moment - moment.replace(hour=0, minute=0, second=0, microsecond=0)).total_seconds()


def test_the_overhead_of_a_flow(chain: Path):
    home = chain.with_name("home")
    flow = ("python", "-m", "pipelines.reproduce")
    plain = Path(shutil.copytree(chain, chain.with_name("plain")))
    repro, _ = timed(plain, "dvc", "repro", "-q")

    begun = now()
    fresh, output = timed(chain, *flow, home=home)
    first_fresh = logged(output, "Running stage") - begun
    noop, noop_output = timed(chain, *flow, home=home)
    engine = logged(noop_output, "Finished in state") - logged(noop_output, "Beginning")

    (chain / "s00.txt").write_text("changed")
    begun = now()
    again, again_output = timed(chain, *flow, home=home)
    first = logged(again_output, "Running stage") - begun
    print(
        f"\ndvc repro of {STAGES} stages {repro:.1f} s; flow {again:.1f} s, on a fresh database "
        f"{fresh:.1f} s; first stage after {first:.1f} s, fresh {first_fresh:.1f} s; "
        f"no-op flow {noop:.1f} s, of which the engine {engine:.1f} s; "
        f"load {os.getloadavg()[0]:.1f}"
    )
    assert "Running stage" in again_output
    assert "Running stage" not in noop_output


def test_two_trainings_side_by_side(tmp_path: Path):
    folder = services.clone(tmp_path / "clone")
    params = folder / "params.yaml"
    text = params.read_text().replace("images_seen: 256", "images_seen: 8192")
    params.write_text(
        text.replace("variants: []", "variants: [full]").replace("seeds: []", "seeds: [1, 2]")
    )
    toy.run(folder, "dvc", "repro", "-q", "cache_features")
    seconds = []
    for places in (1, 2):
        clone = services.copy(folder, tmp_path / f"places{places}")
        command = ["python", "-m", "pipelines.reproduce", "up_to=[ablate_train]"]
        command.append(f"place.concurrency={places}")
        seconds.append(timed(clone, *command, home=tmp_path / "home")[0])
        assert len(list(clone.glob("data/ablations/*/models"))) == 2
    gain = seconds[0] / seconds[1]
    print(f"\none after the other {seconds[0]:.1f} s, side by side {seconds[1]:.1f} s: {gain:.2f}x")
