"""The studio's HTTP API: jobs, images, and who is refused."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from patchdm.app import routes, serve
from patchdm.app.jobs import Jobs
from patchdm.app.server import HEADERS, studio_app
from patchdm.app.work import Studio
from patchdm.formats.images import save_png
from tests.app.asking import ended, given, pixels, posted
from tests.app.conftest import HOSTS
from tests.cli.runs import HEIGHT, WIDTH, refusal

SAMPLE: dict[str, Any] = {"kind": "sample", "seeds": [3, 9], "width": 2 * WIDTH, "height": HEIGHT}


def test_every_step_is_told_with_a_preview(client: TestClient):
    job = posted(client, SAMPLE | {"seeds": [1], "steps": 40})
    seen, pictures = [], []
    with client.stream("GET", f"/api/jobs/{job['id']}/events") as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                seen.append(json.loads(line.removeprefix("data: ")))
                if url := seen[-1]["preview"]:
                    pictures.append(client.get(url))
    assert seen[-1]["state"] == "done"
    steps = [each["step"] for each in seen if each["state"] == "running"]
    assert steps == sorted(steps)
    assert len(set(steps)) > 2
    assert all(each["steps"] == 40 for each in seen if each["step"])
    found = [each.content for each in pictures if each.status_code == 200]  # or finished by then
    assert {Image.open(io.BytesIO(content)).size for content in found} == {(2 * WIDTH, HEIGHT)}


def test_a_job_stops_within_a_step(client: TestClient):
    running = posted(client, SAMPLE | {"steps": 1000})
    waiting = posted(client, SAMPLE)
    while not (found := client.get(f"/api/jobs/{running['id']}").json())["step"]:
        time.sleep(0.01)
    assert (found["state"], client.get(f"/api/jobs/{waiting['id']}").json()["place"]) == (
        "running",
        1,
    )
    assert client.delete(f"/api/jobs/{waiting['id']}").json()["state"] == "cancelled"
    client.delete(f"/api/jobs/{running['id']}")
    assert ended(client, running)["state"] == "cancelled"


def test_what_was_finished_outlives_the_server(studio: Studio):
    with TestClient(studio_app(studio, hosts=HOSTS, token=None)) as client:
        done = ended(client, posted(client, SAMPLE))
    record = studio.folder / done["id"] / "job.json"
    kept = json.loads(record.read_text())
    cut = kept | {"state": "running", "results": kept["results"][:1]}  # as a kill leaves it
    record.write_text(json.dumps(cut))
    (studio.folder / "mine").mkdir()
    (studio.folder / "mine/job.json").write_text("not ours")
    first = (studio.folder / done["id"] / "000.png").stat().st_mtime_ns
    with TestClient(studio_app(studio, hosts=HOSTS, token=None)) as client:
        again = ended(client, done)
        assert [result["id"] for result in again["results"]] == [
            result["id"] for result in done["results"]
        ]
        assert client.get("/api/jobs").json()["jobs"] == [again]
    assert (studio.folder / done["id"] / "000.png").stat().st_mtime_ns == first


def test_a_burst_is_queued_and_none_is_lost(studio: Studio, monkeypatch: pytest.MonkeyPatch):
    go_on = threading.Event()
    monkeypatch.setattr(Studio, "perform", lambda *_: go_on.wait(60) and None)
    with TestClient(studio_app(studio, hosts=HOSTS, token=None)) as client:
        ids = [posted(client, SAMPLE)["id"] for _ in range(200)]
        listed = [job["id"] for job in client.get("/api/jobs").json()["jobs"]]
        assert listed == ids[::-1]
        assert client.get(f"/api/jobs/{ids[-1]}").json()["place"] == 199
        go_on.set()
        states = {ended(client, {"id": id_})["state"] for id_ in ids}
        assert states == {"done"}


@pytest.mark.parametrize(
    ("job", "status", "line"),
    [
        ({"width": 33}, 422, "width is 33, expected multiples of the patch size 8"),
        ({"width": 4}, 422, f"size: found 4x{HEIGHT}, expected 8x8, a patch, or more"),
        ({"seeds": []}, 422, "sample.seeds: List should have at least 1 item after validation"),
        ({"seeds": [-1]}, 422, "sample.seeds.0: Input should be greater than or equal to 0"),
        ({"steps": 2000}, 422, "sample.steps: Input should be less than or equal to 1000"),
        ({"width": 8 * 2**12, "height": 8 * 2**12}, 422, "size: found 32768x32768, expected"),
        ({"guidance": 1.0}, 422, "`guidance_scale` is 1.0, expected 0"),
        ({"solver": "euler"}, 422, "sample.solver: Input should be 'ddim', 'dpm-solver++'"),
        ({"path": "/etc/passwd"}, 422, "sample.path: Extra inputs are not permitted"),
        ({"kind": "shell"}, 422, "request: Input tag 'shell' found using 'kind' does not match"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_in_one_line(
    client: TestClient, job: dict[str, Any], status: int, line: str
):
    response = client.post("/api/jobs", json=SAMPLE | job)
    assert response.status_code == status
    assert response.json()["error"].startswith(line)
    assert client.get("/api/jobs").json()["jobs"] == []


@pytest.mark.parametrize("name", ["../../photo", "%2e%2e%2fphoto", "a" * 65, "0" * 22])
def test_no_name_leads_out_of_the_folder(client: TestClient, name: str):
    for url in (f"/api/images/{name}.png", f"/api/jobs/{name}", f"/api/jobs/{name}/0.png"):
        assert client.get(url).status_code == 404
    job = {"kind": "inpaint", "image": name, "mask": name, "seeds": [0]}
    assert client.post("/api/jobs", json=job).status_code == 404


def test_uploads_are_images_within_limits(client: TestClient, monkeypatch: pytest.MonkeyPatch):
    text = client.post("/api/images", content=b"hello, I am called photo.png")
    assert text.status_code == 415
    assert text.json()["error"].startswith("image: found no image, it begins with 'hello, I am")
    torn = client.post("/api/images", content=Path("photo.png").read_bytes()[:900])
    assert torn.status_code == 415
    monkeypatch.setattr(routes, "UPLOAD_PIXELS", 35 * 21 - 1)
    many = client.post("/api/images", content=Path("photo.png").read_bytes())
    assert many.status_code == 413
    assert many.json()["error"].startswith("image: found 35 x 21 pixels, the limit is 734")
    long = client.post("/api/images", content=bytes(routes.UPLOAD_BYTES + 1))
    assert long.status_code == 413
    assert not Path("studio/uploads").exists()


def test_strangers_are_refused(studio: Studio):
    with TestClient(studio_app(studio, hosts=HOSTS, token=None)) as client:
        for host in ("evil.example", "testserver.evil.example", ""):
            response = client.get("/api/model", headers={"Host": host})
            assert response.status_code == 421
        for origin in ("http://evil.example", "null"):
            response = client.post("/api/jobs", json=SAMPLE, headers={"Origin": origin})
            assert response.status_code == 403
        assert client.get("/api/model", headers={"Origin": "http://testserver"}).status_code == 200
        for path in ("/", "/api/model", "/static/index.html", "/nothing"):
            headers = client.get(path).headers
            assert {name: headers[name] for name in HEADERS} == HEADERS
    with TestClient(studio_app(studio, hosts=HOSTS, token="secret")) as client:
        assert client.get("/").status_code == 200
        assert client.get("/api/model").status_code == 401
        assert client.get("/api/model?token=wrong").status_code == 401
        assert client.get("/api/model?token=secret").status_code == 200
        bearer = {"Authorization": "Bearer secret"}
        assert client.get("/api/model", headers=bearer).status_code == 200


def test_no_answer_has_a_path_of_this_machine(client: TestClient, tmp_path: Path):
    save_png(Path("white.png"), np.full((21, 35, 3), 255, np.uint8))
    image, mask = given(client, "photo.png"), given(client, "white.png")
    job = ended(
        client, posted(client, {"kind": "inpaint", "image": image, "mask": mask, "seeds": [0]})
    )
    assert job["error"] == (
        f"uploads/{mask}.png: found nothing but white, which is where pixels are regenerated"
    )
    for answer in (job, client.get("/api/model").json(), client.get("/api/jobs").json()):
        text = json.dumps(answer)
        assert str(tmp_path) not in text
        assert "studio/" not in text


def test_an_error_of_the_program_does_not_stop_the_queue(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        patch.setattr(Studio, "_samples", lambda *_: 1 / 0)
        job = ended(client, posted(client, SAMPLE))
    assert (job["state"], job["error"]) == (
        "failed",
        "an unexpected error; the server's log has it",
    )
    assert ended(client, posted(client, SAMPLE))["state"] == "done"


def test_the_api_describes_itself(client: TestClient):
    found = client.get("/api/openapi.json").json()
    assert {"/api/model", "/api/images", "/api/jobs", "/api/jobs/{job_id}"} <= set(found["paths"])
    assert all("summary" in way for path in found["paths"].values() for way in path.values())


def test_jobs_in_a_folder_of_others_are_passed_over(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/job.json").write_text("{}")
    assert Jobs(tmp_path, lambda *_: None).all() == []


def test_a_port_and_a_folder_have_one_server(work: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = refusal("app", "run/data/models", "--port", port)
    assert line == f"--host, --port: found 127.0.0.1:{port}: Address already in use"
    line = refusal("app", "run/data/models", "--port", "65536")
    assert line == "--port: found 65536, expected 0 to 65535"
    with serve._alone(Path("studio")):
        line = refusal("app", "run/data/models", "--port", "0")
    assert line == "--out: studio: in use by another studio"
    assert [path.name for path in (work / "studio").iterdir()] == [".lock"]


def test_the_preview_is_of_the_image_at_work(client: TestClient):
    """Of its seed, among all that are computed together; at the last step it is the image."""
    job = SAMPLE | {"seeds": [9, 10, 35], "solver": "ddim", "steps": 12}
    with client.stream("GET", f"/api/jobs/{posted(client, job)['id']}/events") as stream:
        lines = [line for line in stream.iter_lines() if line]
    seen = [json.loads(line.removeprefix("data: ")) for line in lines]
    preview = pixels(client, f"/api/jobs/{seen[-1]['id']}/preview.png").astype(int)
    assert np.abs(preview - pixels(client, seen[-1]["results"][2]["url"])).max() <= 1
    assert all(1 <= each["step"] <= each["steps"] == 12 for each in seen if each["step"])


def test_what_a_job_is_asked_for_by_is_short(client: TestClient):
    headers = {"content-type": "application/json"}
    long = client.post("/api/jobs", content=b" " * (2**20 + 1), headers=headers)
    unknown = client.post("/api/jobs", content=iter([b"{}"]), headers=headers)
    for answer in (long, unknown):
        assert answer.status_code == 413
        assert answer.json()["error"].startswith("request: expected a Content-Length of at most")
