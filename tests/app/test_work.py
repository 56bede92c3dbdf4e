"""What the studio makes: the images of the commands, and those of codes that no seed has."""

from __future__ import annotations

import dataclasses
import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from patchdm.app import work as working
from patchdm.app.work import Studio
from patchdm.cli import restore as restoring
from patchdm.cli.app import main
from patchdm.formats.images import read_image
from tests.app.asking import ended, given, pixels, posted
from tests.cli.runs import HEIGHT, WIDTH, hole

SAMPLE: dict[str, Any] = {"kind": "sample", "seeds": [3, 9], "width": 2 * WIDTH, "height": HEIGHT}


def test_a_sample_is_that_of_its_command(client: TestClient, studio: Studio):
    job = ended(client, posted(client, SAMPLE))
    assert (job["state"], job["done"], job["total"]) == ("done", 2, 2)
    result = job["results"][1]
    assert (result["seed"], result["width"], result["height"]) == (9, 2 * WIDTH, HEIGHT)
    command = result["command"].split()
    assert command[:3] == ["patchdm", "sample", "run"]
    main(["sample", "run/data/models", *command[3:-1], "out"])
    (path,) = Path("out").rglob("000009.png")
    image = Image.open(io.BytesIO(client.get(result["url"]).content))
    np.testing.assert_array_equal(np.asarray(image), read_image(path))
    parameters = json.loads(image.text.pop("parameters"))
    assert parameters == SAMPLE
    assert image.text == {"command": result["command"], "seed": "9", "model": studio.hash}


def test_known_pixels_are_the_photographs(client: TestClient):
    photo = read_image(Path("photo.png"))
    image, mask = given(client, "photo.png"), given(client, "mask.png")
    np.testing.assert_array_equal(pixels(client, f"/api/images/{image}.png"), photo)
    job = {"kind": "inpaint", "image": image, "mask": mask, "seeds": [0, 1], "steps": 2}
    for result in ended(client, posted(client, job))["results"]:
        made = pixels(client, result["url"])
        np.testing.assert_array_equal(made[~hole(photo)], photo[~hole(photo)])
    job = {"kind": "outpaint", "image": image, "right": 9, "top": 2, "seeds": [4], "steps": 2}
    (result,) = ended(client, posted(client, job))["results"]
    np.testing.assert_array_equal(pixels(client, result["url"])[2:, :35], photo)


def test_codes_go_from_one_seed_to_another(client: TestClient):
    options = {"solver": "ddim", "steps": 2, "tiling": "shifted"}
    ends = {"kind": "sample", "seeds": [2], "width": WIDTH, "height": HEIGHT} | options
    (first,) = ended(client, posted(client, ends))["results"]
    job = ended(
        client, posted(client, {"kind": "interpolate", "seeds": [2, 5], "count": 3} | options)
    )
    images = [pixels(client, result["url"]).astype(int) for result in job["results"]]
    assert np.abs(images[0] - pixels(client, first["url"])).max() <= 1
    assert np.abs(images[1] - images[0]).sum() < np.abs(images[2] - images[0]).sum()


def test_a_panorama_is_that_of_its_command(client: TestClient, studio: Studio):
    job = {"kind": "panorama", "first": 2, "codes": 3, "width": 75, "height": 20, "wrap": "x"}
    found = ended(client, posted(client, job | {"steps": 2, "solver": "ddim"}))
    assert found["error"] is None
    (result,) = found["results"]
    command = result["command"].split()
    assert command[:3] == ["patchdm", "panorama", "run"]
    main(["panorama", "run/data/models", *command[3:-1], "p.png"])
    np.testing.assert_array_equal(pixels(client, result["url"]), read_image(Path("p.png")))
    assert not list(studio.folder.glob("*/work"))
    low = client.post("/api/jobs", json=job | {"height": 7})
    assert low.json()["error"] == "size: found 75x7, expected 8x8, a patch, or more"
    unipc = client.post("/api/jobs", json=job | {"solver": "unipc"})
    assert unipc.json()["error"] == "solver: found unipc, expected ddim or dpm-solver++"
    stopped = posted(client, job | {"steps": 1000})
    while not client.get(f"/api/jobs/{stopped['id']}").json()["step"]:
        time.sleep(0.01)
    client.delete(f"/api/jobs/{stopped['id']}")
    assert ended(client, stopped)["state"] == "cancelled"
    assert not list(studio.folder.glob("*/work"))


@pytest.mark.parametrize("computed", ["one by one", "in groups"])
def test_variations_begin_at_the_seeds_own_image(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, computed: str
):
    if computed == "one by one":  # as the images of larger networks are
        monkeypatch.setattr(working, "group_size", lambda *_: 1)
    options = {"solver": "ddim", "steps": 2}
    own = {"kind": "sample", "seeds": [2], "width": WIDTH, "height": HEIGHT} | options
    (result,) = ended(client, posted(client, own))["results"]
    image = pixels(client, result["url"]).astype(int)
    far = []
    for strength in (0, 0.5, 1):
        job = {"kind": "vary", "seed": 2, "towards": [5, 6], "strength": strength} | options
        found = ended(client, posted(client, job))
        assert [each["seed"] for each in found["results"]] == [2, 2]
        images = [pixels(client, each["url"]).astype(int) for each in found["results"]]
        far.append(np.abs(images[0] - image))
        assert (images[0] == images[1]).all() == (strength == 0)
    assert far[0].max() <= (0 if computed == "one by one" else 1)
    assert 0 < far[1].sum() < far[2].sum()
    other = {"code_seed": 5} | own  # where strength 1 arrives
    (result,) = ended(client, posted(client, other))["results"]
    job = {"kind": "vary", "seed": 2, "towards": [5], "strength": 1} | options
    (arrived,) = ended(client, posted(client, job))["results"]
    there = pixels(client, result["url"]).astype(int)
    assert np.abs(pixels(client, arrived["url"]) - there).max() <= 1


def test_codes_need_a_model_that_has_them(client: TestClient, studio: Studio):
    studio.pipe.latent = None
    between: dict[str, Any] = {"kind": "interpolate", "seeds": [1, 2]}
    for job in (between, {"kind": "vary", "seed": 1, "towards": [2]}):
        response = client.post("/api/jobs", json=job)
        assert response.status_code == 422
        assert response.json()["error"] == f"{job['kind']}: found a model without codes"


def test_restoring_counts_its_steps_and_stops_while_it_fits_a_code(
    client: TestClient, studio: Studio, monkeypatch: pytest.MonkeyPatch
):
    image, mask = given(client, "photo.png"), given(client, "mask.png")
    job = {"kind": "inpaint", "image": image, "mask": mask, "seeds": [0], "steps": 3}
    found = ended(client, posted(client, job))
    assert (found["phase"], found["step"], found["steps"]) == (
        "",
        3,
        3,
    )  # each made `resamplings` times
    fit = dict(studio.loaded.found.fit or {}) | {"num_steps": 10**6}
    endless = dataclasses.replace(studio.loaded.found, fit=fit)
    monkeypatch.setattr(studio, "loaded", dataclasses.replace(studio.loaded, found=endless))
    fitting = posted(client, job)
    url = f"/api/jobs/{fitting['id']}"
    while not (seen := client.get(url).json())["step"]:
        time.sleep(0.01)
    assert (seen["phase"], seen["steps"], seen["preview"]) == ("fit", 10**6, None)
    client.delete(url)
    stopped = ended(client, fitting)
    assert (stopped["state"], stopped["phase"]) == ("cancelled", "")


def test_what_the_device_would_not_hold_fails(client: TestClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(restoring, "memory_of", lambda _: 1e5)
    job = {"kind": "outpaint", "image": given(client, "photo.png"), "right": 16000, "seeds": [4]}
    found = ended(client, posted(client, job))
    assert found["state"] == "failed"
    assert "found an image of 16035x21 pixels, worked on as 16040x24" in found["error"]


def test_a_restored_photograph_is_that_of_its_command(client: TestClient):
    image, mask = given(client, "photo.png"), given(client, "mask.png")
    shared = {"image": image, "seeds": [6], "steps": 2, "code": "latent"}
    files = {"IMAGE": "photo.png", "MASK": "mask.png", "FILE": "made.png", "run": "run/data/models"}
    for job in (
        {"kind": "inpaint", "mask": mask},
        {"kind": "outpaint", "right": 9, "native": True},
    ):
        (result,) = ended(client, posted(client, shared | job))["results"]
        words = result["command"].split()[1:]
        assert "--code" in words
        main([files.get(word, word) for word in words])
        np.testing.assert_array_equal(pixels(client, result["url"]), read_image(Path("made.png")))
