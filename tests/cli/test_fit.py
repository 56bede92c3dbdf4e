"""`patchdm fit` from photographs to a folder in which `dvc repro` works."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from patchdm.cli.app import main
from patchdm.config import load_params
from tests.cli.runs import refusal
from tests.conftest import REPO
from tests.fit.cases import DEMO_RATES

SIZE = ["--size", "64x32"]


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the rates of a quiet machine instead of measuring."""
    monkeypatch.setattr("patchdm.cli.fit.measure", lambda _params, _photographs: DEMO_RATES)
    monkeypatch.setattr("patchdm.cli.fit.repository", lambda: REPO)


@pytest.mark.usefixtures("rates")
def test_it_lays_out_a_run_and_says_why(
    tmp_dir: Path, landscapes: Path, capsys: pytest.CaptureFixture[str]
):
    main(["fit", str(landscapes), *SIZE, "--hours", "0.3", "--out", "run"])
    text = capsys.readouterr().out
    for words in (
        "12 photographs: 12 .jpg", "network of preset demo: 4x2 patches of 16", "train_patchdm",
        "memory", "disk", "quality: preset demo reached FID 103.9", "cd run && dvc repro",
    ):  # fmt: skip
        assert words in text
    params = load_params(tmp_dir / "run/params.yaml")
    assert params.data.location == str(landscapes)
    assert (params.data.width, params.data.height) == (64, 32)
    assert "# What fits 0.3 h" in (tmp_dir / "run/params.yaml").read_text()
    status = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "download"],
        cwd=tmp_dir / "run", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "params.yaml" in status.stdout  # of another source than the last run's


@pytest.mark.usefixtures("rates", "tmp_dir")
def test_run_starts_the_pipeline(landscapes: Path, monkeypatch: pytest.MonkeyPatch):
    started = []
    monkeypatch.setattr("patchdm.cli.fit.fit", lambda *_, **__: iter(["found"]))
    monkeypatch.setattr("patchdm.cli.fit.run", lambda folder: started.append(folder) or 3)
    with pytest.raises(SystemExit) as exit_:
        main(["fit", str(landscapes), *SIZE, "--hours", "0.3", "--run"])
    assert exit_.value.code == 3
    assert started == [Path("runs") / landscapes.name]


@pytest.mark.usefixtures("rates")
def test_what_fits_nothing_is_refused_in_one_line(tmp_dir: Path, landscapes: Path):
    hours = ["--hours", "0.3"]
    (tmp_dir / "empty").mkdir()
    assert "empty: found no image" in refusal("fit", "empty", *SIZE, *hours)
    few = tmp_dir / "few"
    few.mkdir()
    for path in sorted(landscapes.iterdir())[:3]:
        shutil.copy(path, few)
    assert "found 3 photographs that can be read, expected 8 or more" in refusal(
        "fit", "few", *SIZE, *hours
    )
    folder = str(landscapes)
    assert refusal("fit", folder, "--size", "70x30", *hours).startswith(
        "--size: found 70x30, expected multiples of 8"
    )
    assert refusal("fit", folder, *SIZE, "--hours", "0.01").startswith(
        "--hours: found 0.01, expected 0."
    )
    assert refusal("fit", folder, *SIZE, *hours, "--out", "few") == (
        "few: exists, expected a new folder (--out)"
    )
    (few / "credits.csv").write_text("name,author\n")
    assert refusal("fit", "few", *SIZE, *hours).endswith(
        "credits.csv: found the columns ['name', 'author'], expected ['file', 'author', 'licence']"
    )
    assert not (tmp_dir / "runs").exists()


@pytest.mark.usefixtures("rates")
def test_a_run_inside_its_photographs_is_refused(tmp_dir: Path, landscapes: Path):
    shutil.copytree(landscapes, tmp_dir / "mine")
    message = refusal("fit", "mine", *SIZE, "--hours", "0.3", "--out", "mine/run")
    assert message.startswith("--out: found mine/run: data.location: found ")
    assert not (tmp_dir / "mine/run").exists()


@pytest.mark.usefixtures("rates")
def test_plan_takes_the_file(tmp_dir: Path, landscapes: Path, capsys: pytest.CaptureFixture[str]):
    shutil.copytree(landscapes, tmp_dir / "mine")
    text = (REPO / "params.yaml").read_text()
    text = text.replace("source: bundled", "source: folder")
    text = text.replace("location: data/bundled/landscapes-free-768x384.zip", "location: ../mine")
    (tmp_dir / "run").mkdir()
    (tmp_dir / "run/params.yaml").write_text(text)
    main(["plan", "run/params.yaml"])
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if line.startswith("photographs ")).split()[-1] == "12"
    assert refusal("plan", "run/nope.yaml").startswith("run/nope.yaml: cannot be read")
