"""The photographs of the training that an image is nearest to."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from patchdm.app import photographs
from patchdm.app.nearest import COUNT, Finder, windows
from patchdm.app.photographs import OfFiles, images_of
from patchdm.app.server import studio_app
from patchdm.app.work import Studio
from patchdm.cli.restore import Restorer, restorer
from patchdm.errors import PatchDMError
from patchdm.formats.images import fit, read_image
from patchdm.formats.patch_store import PatchStore
from tests.app.asking import ended, posted
from tests.app.conftest import HOSTS, MODEL
from tests.cli.runs import HEIGHT, WIDTH, refusal
from tests.stages.tiny import write_tiny_store

SAMPLE = {"kind": "sample", "seeds": [1], "width": 2 * WIDTH, "height": HEIGHT, "steps": 2}


@pytest.fixture
def own(work: Path, landscapes: Path) -> Path:
    """Return the models of a run that has its photographs."""
    shutil.copytree(work / "run", work / "own")
    write_tiny_store(work / "store/patches", landscapes)
    shutil.move(work / "store/patches", work / "own/data/patches")
    return Path("own/data/models")


@pytest.fixture
def loaded(own: Path) -> Restorer:
    return restorer(own, "cpu", None)


def test_a_copy_is_found_at_once(own: Path, loaded: Restorer):
    images = images_of(own, loaded.pipe, None)
    assert images is not None
    finder, store = Finder(images, (HEIGHT, WIDTH)), PatchStore(own.parent / "patches")
    for row in store.rows("train")[:4].tolist():
        found = finder.near(store.images([row])[0])
        first, second, *_ = found.photographs
        assert first.name == store.index["source"][row]
        assert (first.distance, found.usual is not None) == (0, True)
        assert second.distance > 0
        assert len({each.name for each in found.photographs}) == COUNT
    assert (found.compared, found.total, found.images) == (9, 9, 18)


def test_a_job_says_what_it_is_near_to(own: Path, loaded: Restorer, work: Path):
    studio = Studio(loaded, "own", Path("studio"), images_of(own, loaded.pipe, None))
    with TestClient(studio_app(studio, hosts=HOSTS, token=None)) as client:
        assert client.get("/api/model").json()["photographs"] is True
        (result,) = ended(client, posted(client, SAMPLE))["results"]
        response = client.get(result["url"].replace(".png", "/nearest"))
        assert response.status_code == 200
        found = response.json()
        distances = [each["distance"] for each in found["photographs"]]
        assert distances == sorted(distances)
        assert distances[0] > 0
        assert found["usual"] > 0
        assert not found["given"]
        pictures = [each["picture"][:23] for each in found["photographs"]]
        assert pictures == ["data:image/jpeg;base64,"] * COUNT
        assert str(work) not in json.dumps(found)
        nothing = client.get(result["url"].replace("/0.png", "/1/nearest"))
        assert (nothing.status_code, nothing.json()) == (404, {"error": "image 1: not found"})


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_photographs_are_named_by_the_command(
    loaded: Restorer, landscapes: Path, tmp_path: Path, kind: str
):
    folder = tmp_path / "given"
    shutil.copytree(landscapes, folder / "of" / "mine")
    (folder / "torn.jpg").write_bytes(b"\xff\xd8\xff")
    (folder / "notes.txt").write_text("none")
    path = folder
    if kind == "zip":
        path = tmp_path / "given.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(folder.rglob("*.*")):
                archive.write(file, file.relative_to(folder))
    images = images_of(Path("pipe"), loaded.pipe, path)
    assert images is not None
    finder = Finder(images, (HEIGHT, WIDTH))
    name = sorted(landscapes.iterdir())[5].name
    photo = read_image(landscapes / name)
    for view in (photo, photo[:, ::-1], photo[:29, :58], np.tile(photo, (1, 3, 1))):
        found = finder.near(fit(view, WIDTH, HEIGHT) if view.shape[1] < 200 else view)
        assert found.photographs[0].name == name
        assert found.usual is not None
        assert found.photographs[0].distance < found.usual / 2
    assert (found.compared, found.total, found.given) == (12, 13, True)


def test_of_many_photographs_some_are_compared(
    loaded: Restorer, own: Path, landscapes: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(photographs, "MOST_FILES", 5)
    monkeypatch.setattr(photographs, "MOST_IMAGES", 7)
    of_files = OfFiles(landscapes, HEIGHT, WIDTH).small()
    assert (len(of_files.names), of_files.total) == (5, 12)
    of_run = images_of(own, loaded.pipe, None)
    assert of_run is not None
    small = of_run.small()
    assert (len(small.thumbnails), len(small.names), small.total) == (7, 7, 9)


def test_a_model_without_photographs_says_so(client: TestClient, own: Path, loaded: Restorer):
    assert client.get("/api/model").json()["photographs"] is False
    (result,) = ended(client, posted(client, SAMPLE))["results"]
    response = client.get(result["url"].replace(".png", "/nearest"))
    assert response.status_code == 404
    assert response.json()["error"].startswith("model: came without its photographs; `patchdm app")
    assert images_of(MODEL, loaded.pipe, None) is None
    (own.parent / "patches/index.parquet").write_bytes(b"damaged")
    assert images_of(own, loaded.pipe, None) is None


def test_photographs_that_are_none_are_refused(loaded: Restorer, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(PatchDMError, match="empty: found no image"):
        images_of(Path("pipe"), loaded.pipe, tmp_path / "empty")
    line = refusal("app", "run/data/models", "--photographs", "nowhere")
    assert line == "--photographs: nowhere: not found"


@pytest.mark.parametrize(
    ("size", "count"), [((16, 32), 1), ((16, 64), 3), ((64, 32), 7), ((5, 7), 2), ((1, 4000), 32)]
)
def test_windows_cover_an_image(size: tuple[int, int], count: int):
    image = np.arange(size[0] * size[1]).reshape(*size, 1).repeat(3, axis=2)
    parts = windows(image, 16, 32)  # type: ignore[arg-type]
    assert len(parts) == count
    seen = np.unique(np.concatenate([part[..., 0].ravel() for part in parts]))
    assert len(seen) == image[..., 0].size or count == 32
