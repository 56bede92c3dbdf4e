from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines import artifacts, process
from pipelines.graph import Out


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Percentages that Prefect is told."""
    told: list[float] = []

    def create(percent: float, key: str, what: str) -> str:
        assert (key, what) == (f"b-one-{what.replace('_', '-')}-progress", what)
        told.append(percent)
        return "id"

    def update(_artifact: Any, percent: float) -> None:
        told.append(percent)

    monkeypatch.setattr(artifacts, "create_progress_artifact", create)
    monkeypatch.setattr(artifacts, "update_progress_artifact", update)
    return told


def test_progress_becomes_an_artifact(shown: list[float]):
    progress = artifacts.Progress("b@one")
    for line in (
        "train_patchdm: 0 of 150,000 windows",
        "train_patchdm: 37,500 of 150,000 windows, 131/s, 14 min left",
        "train_patchdm: 150,000 of 150,000 windows, done in 19 min",
    ):
        progress.follow(line)
    assert shown == [0, 25, 100]


def test_each_phase_has_an_artifact(monkeypatch: pytest.MonkeyPatch):
    updated: list[str] = []
    monkeypatch.setattr(artifacts, "create_progress_artifact", lambda _percent, key, _what: key)
    monkeypatch.setattr(
        artifacts, "update_progress_artifact", lambda which, _percent: updated.append(which)
    )
    progress = artifacts.Progress("evaluate")
    for phase in ("samples", "nearest", "samples"):
        progress.follow(f"{phase}: 1 of 8 images")
        progress.follow(f"{phase}: 4 of 8 images")
    names = ["samples", "nearest", "samples", "samples"]
    assert updated == [f"evaluate-{name}-progress" for name in names]


def test_what_a_child_of_a_flow_shows_is_followed(shown: list[float], tmp_path: Path):
    (tmp_path / "work.py").write_text(
        "from patchdm import console\n"
        "with console.progress('train_patchdm', 8, 'images') as advance_to: advance_to(4)\n"
    )
    progress = artifacts.Progress("b@one")
    assert process.run(["work"], progress.follow, tmp_path) == 0
    assert shown == [50]


def test_other_lines_are_none(shown: list[float]):
    progress = artifacts.Progress("b@one")
    for line in ("Running stage 'a':", "seen 3/4", "a.json: 1/2 done", "download: 12 MiB"):
        progress.follow(line)
    assert shown == []


def test_keys_are_what_prefect_allows():
    assert artifacts.artifact_key("train@no-code-1", "Index") == "train-no-code-1-index"


def test_keys_do_not_repeat_themselves():
    assert artifacts.artifact_key("applications", "applications", "applications") == "applications"
    assert (
        artifacts.artifact_key("train_patchdm", "patchdm", "pictures") == "train-patchdm-pictures"
    )
    assert artifacts.artifact_key("a", "b", "a") == "a-b-a"
    assert artifacts.artifact_key("ablate", "late") == "ablate-late"


def test_an_overview_is_small_whatever_its_pictures_are(tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 256, (300, 600, 3), np.uint8)
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for path in paths[:3]:
        Image.fromarray(noise).save(path)
    paths[3].write_text("no picture")
    data = artifacts.overview(paths)
    assert len(data) <= artifacts.MAX_BYTES
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "JPEG"
        assert image.width == 3 * artifacts.SIDE
        grey = np.asarray(image.convert("L"))
    right = grey[:, 2 * artifacts.SIDE + 10 :]
    assert right[: grey.shape[0] // 2].std() > 10
    assert right[grey.shape[0] // 2 :].min() > 200


def test_a_folder_shows_tables_and_pictures_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    told: dict[str, Any] = {}

    def tell(data: Any, key: str, description: str) -> None:
        assert description.startswith(("tables", "reports/page.html"))
        told[key] = data

    monkeypatch.setattr(artifacts, "create_markdown_artifact", tell)
    monkeypatch.setattr(artifacts, "create_table_artifact", tell)
    (tmp_path / "reports/page.html").parent.mkdir()
    (tmp_path / "reports/page.html").touch()
    sheets = tmp_path / "tables/sheets"
    sheets.mkdir(parents=True)
    (tmp_path / "tables/tables.csv").write_text("n,fid\n8,1.5\n")
    for number in range(20):
        Image.new("RGB", (8, 4), "red").save(sheets / f"{number}.png")
    outs = Out("tables", metric=False), Out("reports/page.html", metric=False)
    artifacts.publish("tables", outs, tmp_path)
    assert told.keys() == {"tables", "tables-pictures", "tables-page"}
    assert told["tables"] == [{"n": "8", "fid": "1.5"}]
    picture = told["tables-pictures"]
    assert picture.startswith(
        "![tables: 10 of 20 pictures, in the order of their names](data:image/"
    )
    assert str(tmp_path / "reports/page.html") in told["tables-page"]
    assert not any("file://" in str(data) for data in told.values())
