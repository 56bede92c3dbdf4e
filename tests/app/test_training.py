"""The studio's Training tab: what its API says of a run, and the page that follows it."""

from __future__ import annotations

import fcntl
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from patchdm.app import routes, training
from patchdm.app.server import studio_app
from patchdm.app.training import Trainings, run_folder
from patchdm.app.work import Studio
from patchdm.formats.images import save_png
from patchdm.report import live
from tests.app.asking import pixels
from tests.app.browser import Site, until
from tests.app.conftest import HOSTS
from tests.app.test_access import violations
from tests.browser import CUT_OFF, MARKS
from tests.conftest import REPO
from tests.report.test_live import write_points

CURVES = ["curves-loss", "curves-loss-by-time", "curves-learning-rate", "curves-grad-norm"]


@pytest.fixture
def run(work: Path) -> Path:
    """The folder of a run in which nothing was trained."""
    folder = work / "sea"
    folder.mkdir()
    shutil.copy(REPO / "params.yaml", folder)
    return folder


@pytest.fixture
def image(run: Path) -> Path:
    """The folder of its image model, which saw 3,000 images."""
    folder = run / ".state/train_patchdm/abc"
    write_points(folder, 3000)
    sheet(folder, 2000, 0)
    return folder


@pytest.fixture
def following(run: Path, studio: Studio) -> Iterator[TestClient]:
    """A client of a studio in the run."""
    studio.trainings = Trainings(run)
    with TestClient(studio_app(studio, hosts=HOSTS, token=None)) as found:
        yield found


def sheet(folder: Path, seen: int, level: int) -> None:
    save_png(folder / f"sheets/{seen:09d}.png", np.full((24, 48, 3), level, np.uint8))


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Be a training at work."""
    with (folder / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def told(client: TestClient) -> dict[str, Any]:
    response = client.get("/api/training")
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def test_without_a_run_there_is_nothing(client: TestClient):
    assert told(client) == {"run": None, "error": None, "trainings": []}
    assert client.get("/api/model").json()["training"]


def test_a_run_in_which_nothing_was_trained(following: TestClient):
    assert told(following) == {"run": "sea", "error": None, "trainings": []}


def test_a_training_runs_stops_and_is_done(following: TestClient, image: Path, tmp_path: Path):
    with held(image):
        (first,) = told(following)["trainings"]
        write_points(image, 5000, time.time())
        answer = told(following)
        (second,) = answer["trainings"]
    assert (first["stage"], first["unit"], first["state"]) == ("train_patchdm", "images", "running")
    assert (first["seen"], first["total"]) == (3000, 150_000)
    assert [each["name"] for each in first["pictures"]] == ["sheet", *CURVES]
    assert second["pace"].endswith(" left")
    assert str(tmp_path) not in json.dumps(answer)
    assert told(following)["trainings"][0]["state"] == "stopped"
    write_points(image, 150_000)
    (done,) = told(following)["trainings"]
    assert (done["state"], done["pace"]) == ("done", "150,000 of 150,000 images, done")


def test_pictures_have_another_url_when_they_change(following: TestClient, image: Path):
    def urls() -> dict[str, str]:
        (found,) = told(following)["trainings"]
        return {each["name"]: each["url"] for each in found["pictures"]}

    first = urls()
    assert urls() == first
    sheet(image, 3000, 99)
    second = urls()
    assert {name for name in first if first[name] != second[name]} == {"sheet"}
    assert (pixels(following, second["sheet"]) == 99).all()
    assert following.get(second["curves-loss"]).headers["content-type"] == "image/png"


def test_nothing_is_drawn_twice(
    following: TestClient, image: Path, monkeypatch: pytest.MonkeyPatch
):
    told(following)
    monkeypatch.setattr(live, "pictures", lambda _: pytest.fail("drawn again"))
    assert len(told(following)["trainings"][0]["pictures"]) == 5
    assert image.exists()


@pytest.mark.parametrize("running", [True, False])
def test_what_is_just_being_written_keeps_its_picture(
    following: TestClient, image: Path, running: bool
):
    (before,) = told(following)["trainings"]
    (image / "curves/plots/metrics/grad_norm.tsv").write_text("step\tgrad_norm\n")
    if running:
        with held(image):
            (after,) = told(following)["trainings"]
    else:
        (after,) = told(following)["trainings"]
    assert after["pictures"] == before["pictures"]


def test_another_training_of_the_stage_has_its_own_pictures(
    following: TestClient, image: Path, run: Path
):
    assert told(following)["trainings"][0]["seen"] == 3000
    write_points(run / ".state/train_patchdm/new", 1000, time.time())
    (found,) = told(following)["trainings"]
    assert (found["seen"], [each["name"] for each in found["pictures"]]) == (1000, CURVES)
    assert following.get("/api/training/train_patchdm/sheet.png").status_code == 404
    assert image.exists()


def test_wrong_parameters_are_said_without_a_path(following: TestClient, image: Path, run: Path):
    assert told(following)["trainings"]
    (run / "params.yaml").write_text("data: {location: /home/me}")
    found = told(following)
    assert (found["error"], found["trainings"][0]["seen"]) == (training.WRONG, 3000)
    assert image.exists()


@pytest.mark.parametrize("name", ["nothing", "..%2f..%2fparams", "sheet.png%00"])
def test_no_name_leads_to_a_file(following: TestClient, image: Path, name: str):
    told(following)
    assert following.get(f"/api/training/train_patchdm/{name}.png").status_code == 404
    assert following.get(f"/api/training/{name}/sheet.png").status_code == 404
    assert image.exists()


def test_without_what_draws_the_page_has_no_tab(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(routes, "can_draw", lambda: False)
    assert not client.get("/api/model").json()["training"]
    response = client.get("/api/training")
    assert (response.status_code, response.json()["error"]) == (404, routes.NO_CURVES)


def test_the_run_of_the_model_comes_before_the_working_folder(work: Path, run: Path):
    other = work / "river"
    (other / "data/models").mkdir(parents=True)
    assert run_folder(other / "data/models") is None
    shutil.copy(run / "params.yaml", work)
    assert run_folder(other / "data/models") == work
    shutil.copy(run / "params.yaml", other)
    assert run_folder(other / "data/models") == other
    assert run_folder(work / "pipe") == work


def in_browser(test: Any) -> Any:
    """Mark a test as slow where no browser is installed."""
    for mark in MARKS:
        test = mark(test)
    return test


@in_browser
@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (1400, "dark"),
        (360, "light"),
        pytest.param(1400, "light", marks=pytest.mark.slow),
        pytest.param(360, "dark", marks=pytest.mark.slow),
    ],
)
def test_the_page_follows_a_training(
    site: Site, studio: Studio, run: Path, image: Path, scheme: str, width: int
):
    page = site.page(width=width, height=900, scheme=scheme)
    page.click("#tab-training")
    page.wait_for_selector("#training-said:text('There is no run to follow')")
    studio.trainings = Trainings(run)
    page.clock.install()
    page.click("#tab-sample")
    page.click("#tab-training")
    images = "[...document.querySelectorAll('#training figure img')]"
    until(page, f"{images}.length === 5 && {images}.every(each => each.naturalWidth)")
    assert page.inner_text(".state") == "Not running"
    assert page.inner_text(".training .line") == "3,000 of 150,000 images"  # not once more
    assert page.inner_text("#training-run").startswith("Run sea, as it was at ")
    write_points(image, 75_000, time.time())
    sheet(image, 70_000, 200)
    with held(image):
        page.clock.run_for(16_000)
        page.wait_for_selector(".training[data-state=running]")
    assert page.inner_text(".training .line").startswith("75,000 of 150,000 images, ")
    assert page.evaluate("document.querySelector('.training progress').position") == 0.5
    page.wait_for_selector("figcaption:has-text('Samples after 70,000 images')")
    assert violations(page) == []
    assert page.evaluate(CUT_OFF) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    asked = list[str]()
    page.on("request", lambda request: asked.append(request.url))
    page.click("#tab-sample")
    page.clock.run_for(60_000)
    assert [url for url in asked if "/api/training" in url] == []


@in_browser
def test_a_page_without_the_tab(site: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(routes, "can_draw", lambda: False)
    page = site.page()
    page.focus("#tab-sample")
    page.keyboard.press("ArrowLeft")  # to the last one
    assert page.evaluate("document.activeElement.id") == "tab-explore"
    assert page.is_hidden("#tab-training")
