from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from patchdm.errors import PatchDMError
from pipelines import api, command
from pipelines.command import main, parse
from pipelines.errors import FlowError
from pipelines.reproduce import reproduce
from pipelines.sample_at_scale import cut, sample_at_scale
from pipelines.train import train
from tests.conftest import REPO


def test_arguments_are_parameters():
    argv = ["up_to=[a, b]", "place.concurrency=4", "place.runner=ray", "out=x=y"]
    assert parse(argv, ["up_to", "place", "out"]) == {
        "up_to": ["a", "b"],
        "place": {"concurrency": 4, "runner": "ray"},
        "out": "x=y",
    }


@pytest.mark.parametrize("argument", ["up_to", "upto=[a]", "place=[", "--up_to=a", "=1"])
def test_other_arguments_are_refused(argument: str):
    with pytest.raises(FlowError, match="expected "):
        parse([argument], ["up_to", "place"])


@pytest.mark.parametrize(
    ("flow", "argv", "message"),
    [
        (reproduce, ["place.concurrency=0"], "place.concurrency: Input should be greater than"),
        (
            reproduce,
            ["place.runner=slurm"],
            "place.runner: Input should be 'threads', 'workers'",
        ),
        (reproduce, ["place.slots=1"], "place.slots: Extra inputs are not permitted"),
        (reproduce, ["up_to=train"], "up_to: Input should be a valid list"),
        (train, ["tflops=0"], "tflops: Input should be greater than 0"),
        (sample_at_scale, ["seeds=5-9", "out=x"], "seeds: String should match pattern"),
        (sample_at_scale, ["seeds=0:5"], "out"),
        (
            sample_at_scale,
            ["seeds=0:5", "out=x", "sampling.size=9x"],
            "sampling.size: String should",
        ),
    ],
)
def test_wrong_parameters_are_one_line_and_nothing_starts(
    monkeypatch: pytest.MonkeyPatch, flow: Any, argv: list[str], message: str
):
    monkeypatch.setattr(command, "start_api", lambda: pytest.fail("started"))
    with pytest.raises(SystemExit) as caught:
        main(flow, argv)
    assert message in str(caught.value)
    assert str(caught.value).startswith("error: ")
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("prefect_api")
@pytest.mark.parametrize(
    ("flow", "parameters", "message"),
    [
        (sample_at_scale, {"seeds": "5:5", "out": "x"}, "seeds is 5:5, expected FIRST:END"),
        (
            sample_at_scale,
            {"seeds": "0:4", "out": "x", "place": {"runner": "workers"}},
            "place.runner is workers, expected threads, dask and ray",
        ),
        (
            sample_at_scale,
            {"seeds": "0:4", "out": "x", "place": {"runner": "dask", "address": "tcp://h:1"}},
            "out is x, expected with place.address: an absolute path on all hosts",
        ),
        (reproduce, {}, "not a DVC repository, run in the root of one"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(
    tmp_dir: Path, flow: Any, parameters: dict[str, Any], message: str
):
    params = tmp_dir / "params.yaml"
    params.write_bytes((REPO / "presets/smoke.yaml").read_bytes())
    with pytest.raises(FlowError, match=message):
        flow(**parameters)
    assert list(tmp_dir.iterdir()) == [params]


@pytest.mark.usefixtures("prefect_api")
def test_processes_that_cannot_share_a_batch_are_refused_before_anything_starts(tmp_dir: Path):
    text = (REPO / "presets/smoke.yaml").read_text()
    (tmp_dir / "params.yaml").write_text(text.replace("processes: null", "processes: 3"))
    with pytest.raises(PatchDMError, match="expected multiples of machine.processes = 3"):
        train()
    assert [path.name for path in tmp_dir.iterdir()] == ["params.yaml"]


@pytest.mark.usefixtures("prefect_api")
def test_a_configured_server_is_used(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(api.subprocess, "Popen", lambda *_, **__: pytest.fail("started another"))
    assert api.PREFECT_API_URL.value()
    api.start_api()


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/api", "127.0.0.1"])
def test_a_server_that_is_not_there_is_one_line(tmp_dir: Path, url: str):
    with (
        api.temporary_settings({api.PREFECT_API_URL: url}),
        pytest.raises(SystemExit) as ended,
    ):
        main(reproduce, [])
    assert str(ended.value).startswith(f"error: PREFECT_API_URL is {url}, expected the URL of")
    assert "\n" not in str(ended.value)
    assert not list(tmp_dir.iterdir())


def test_a_home_that_cannot_be_made_is_one_line():
    home = Path("/proc/nowhere")
    with (
        api.temporary_settings({api.PREFECT_API_URL: None, api.PREFECT_HOME: home}),
        pytest.raises(FlowError, match="PREFECT_HOME is /proc/nowhere, expected a folder"),
    ):
        api.start_api()


def test_settings_that_prefect_refuses_are_one_line(tmp_dir: Path):
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.reproduce"],
        cwd=tmp_dir,
        env=os.environ | {"PYTHONPATH": str(REPO), "PREFECT_LOGGING_LEVEL": "VERBOSE"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: Prefect's settings (PREFECT_..., prefect.toml or a profile): ")
    assert "input_value='VERBOSE'" in line


def test_a_range_is_cut_without_gaps():
    for parts in (1, 3, 7, 20):
        found = cut(range(5, 15), parts)
        assert [seed for part in found for seed in part] == list(range(5, 15))
        assert len(found) == min(parts, 10)
        assert max(map(len, found)) - min(map(len, found)) <= 1
