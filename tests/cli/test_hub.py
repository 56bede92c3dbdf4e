"""Models of the hub: as MODEL of commands, and pushed, on a server of the test's own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from patchdm.cli.app import main
from patchdm.pipeline import PatchDMPipeline
from patchdm.saved import CARD, SUMS, check_sums
from tests.cli.hub import Hub
from tests.cli.runs import STEPS, hashes, refusal, refused
from tests.cli.test_saved import save
from tests.conftest import REPO
from tests.fetch.packs import COMMIT
from tests.fetch.server import cut, status
from tests.photographs import contents

SEA = "someone/sea"
SAMPLE = ["--seeds", "0:2", *STEPS, "--out"]


def sampled(model: str, out: str = "out") -> dict[int, str]:
    main(["sample", model, *SAMPLE, out])
    return hashes(Path(out))


@pytest.mark.usefixtures("work")
def test_a_model_of_the_hub_samples_as_its_folder_does(hub: Hub, capsys: pytest.CaptureFixture):
    hub.serve(SEA, Path("pipe"))
    expected = sampled("pipe", "folder")
    assert "model:" not in capsys.readouterr().err
    assert sampled(SEA) == expected
    assert f"model: {SEA}@{COMMIT} of the hub, 32x16\n" in capsys.readouterr().err
    main(["outpaint", SEA, "photo.png", "--right", "8", "--out", "wide.png", *STEPS])
    assert Path("wide.png").exists()


@pytest.mark.usefixtures("work")
@pytest.mark.parametrize("revision", ["", "@main", f"@{COMMIT}"])
def test_a_cached_model_needs_no_network(hub: Hub, monkeypatch: pytest.MonkeyPatch, revision: str):
    hub.serve(SEA, Path("pipe"))
    expected = sampled(SEA + revision)
    hub.site.sometimes = lambda _path: status(503)
    assert sampled(SEA + revision, "out2") == expected
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(hub.site.asked)
    assert sampled(SEA + revision, "out3") == expected
    assert len(hub.site.asked) == asked


def test_a_pinned_revision_stays(work: Path, hub: Hub):
    hub.serve(SEA, work / "pipe")
    expected = sampled(SEA)
    shutil.copytree(work / "pipe", work / "new")
    pipe = PatchDMPipeline.from_pretrained(work / "pipe")
    torch.nn.init.ones_(next(pipe.unet.parameters()))
    pipe.save_pretrained(work / "new")
    hub.serve(SEA, work / "new", commit="f" * 40)
    assert sampled(f"{SEA}@{COMMIT}", "pinned") == expected
    assert sampled(SEA, "newest") != expected


@pytest.mark.usefixtures("work")
def test_only_what_a_pipeline_loads_is_downloaded(hub: Hub):
    shutil.copytree("pipe", "more")
    for name in ("unet/weights.bin", "evil.pkl", "unet/code.py", "data.json", "big.safetensors"):
        Path("more", name).write_bytes(b"cos\nsystem\n(S'touch evil'\ntR.")
    hub.serve(SEA, Path("more"))
    sampled(SEA)
    asked = {path.split("/resolve/")[1][41:] for path, _ in hub.site.asked if "/resolve/" in path}
    assert asked == {
        name for name in contents(Path("pipe")) if name.endswith((".json", ".safetensors"))
    }


def without_index(folder: Path) -> None:
    (folder / "model_index.json").unlink()


def changed(**values: object) -> Callable[[Path], None]:
    """Return what changes model_index.json."""

    def change(folder: Path) -> None:
        file = folder / "model_index.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return change


def damaged(folder: Path) -> None:
    file = folder / "unet/diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-9] + bytes(9))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_index, "found no model_index.json, expected that of a PatchDMPipeline"),
        (changed(_class_name="FluxPipeline"), "found a FluxPipeline, expected a PatchDMPipeline"),
        (changed(_class_name=["evil", "Pipe"]), "found a ['evil', 'Pipe'], expected a Patch"),
        (changed(unet=["os", "system"]), "found the part unet of os, expected one of diffusers"),
        (changed(**{"../unet": ["diffusers", "A"]}), "found the part ../unet of diffusers"),
        (damaged, "unet/diffusion_pytorch_model.safetensors: found sha256 "),
    ],
)
def test_what_is_no_pipeline_is_refused(
    work: Path, hub: Hub, spoil: Callable[[Path], None], message: str
):
    save("pipe", "saved")
    spoil(work / "saved")
    hub.serve(SEA, work / "saved")
    assert message in refused(work, "sample", SEA, *SAMPLE, "out")


@pytest.mark.parametrize(
    ("model", "fault", "message"),
    [
        (SEA, None, "found neither such a folder nor such a model of the hub (HTTP 404)"),
        (SEA, status(404, X_Error_Code="RepoNotFound"), "found neither such a folder nor such"),
        (SEA, status(401), "found HTTP 401, expected an existing model that all may read, or a"),
        (SEA, status(403), "found HTTP 403, expected an existing model that all may read, or a"),
        (SEA, status(403, X_Error_Code="GatedRepo"), "found HTTP 403, expected an existing model"),
        (SEA, status(500), "found none in the hub's cache, and no answer of the hub: "),
        (SEA, status(200), ""),
        (f"{SEA}@v2", status(404, X_Error_Code="RevisionNotFound"), "found no such revision of"),
        ("some..one/sea", None, "Cannot have -- or .. in repo_id"),
    ],
)
def test_models_that_cannot_be_had_are_one_line(
    work: Path, hub: Hub, model: str, fault: object, message: str
):
    if fault:
        hub.site.sometimes = lambda _path: fault
    answer = refused(work, "sample", model, *SAMPLE, "out")
    assert answer.startswith(f"{model}: {message}")


def test_without_network_a_model_that_is_not_cached_is_one_line(
    work: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
):
    del hub
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    answer = refused(work, "sample", SEA, *SAMPLE, "out")
    assert answer.startswith(f"{SEA}: found none in the hub's cache, and no answer of the hub: ")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    expected = f"{SEA}: found none in the hub's cache, expected one or HF_HUB_OFFLINE=0"
    assert refused(work, "sample", SEA, *SAMPLE, "out") == expected


@pytest.mark.usefixtures("work")
def test_a_download_that_breaks_off_is_one_line_and_goes_on(hub: Hub):
    hub.serve(SEA, Path("pipe"))
    weights = f"{SEA}/resolve/{COMMIT}/unet/diffusion_pytorch_model.safetensors"
    hub.site.always[weights] = cut(0.5)
    assert refusal("sample", SEA, *SAMPLE, "out").startswith(f"{SEA}: ")
    hub.site.always.clear()
    assert sampled(SEA) == sampled("pipe", "folder")


@pytest.mark.parametrize(
    "model", ["nowhere", "photo.png", "./a/b", "a/b/", "a/b/c", "../b", "data/models", "run/data"]
)
def test_paths_are_not_looked_for_on_the_hub(work: Path, hub: Hub, model: str):
    answer = refused(work, "sample", model, *SAMPLE, "out")
    assert answer.startswith(f"{model}: found neither model_index.json nor patchdm/, expected")
    assert hub.site.asked == []


PROGRAM = """
import sys
from patchdm.cli.app import main
main(sys.argv[2:])
from patchdm.pipeline import PatchDMPipeline
assert PatchDMPipeline.from_pretrained(sys.argv[1]).latent is not None
"""


@pytest.mark.usefixtures("work")
@pytest.mark.slow
def test_command_and_python_follow_the_environment_of_the_hub(hub: Hub):
    hub.serve(SEA, Path("pipe"))
    variables = {"HF_ENDPOINT": hub.site.url, "HF_HOME": "home", "PYTHONPATH": str(REPO)}
    command = [sys.executable, "-c", PROGRAM, SEA, "sample", SEA, *SAMPLE]
    asked = []
    for out, offline in (("out1", "0"), ("out2", "1")):
        env = os.environ | variables | {"HF_HUB_OFFLINE": offline}
        done = subprocess.run([*command, out], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{out}: done\n"
        assert done.stderr.startswith(f"model: {SEA}@{COMMIT} of the hub, 32x16\n")
        asked.append(len(hub.site.asked))
    assert 0 < asked[0] == asked[1]
    assert hashes(Path("out1")) == hashes(Path("out2"))


# Pushing


@pytest.mark.usefixtures("work")
def test_a_run_is_pushed_as_one_folder_with_a_card(hub: Hub, capsys: pytest.CaptureFixture):
    main(["push", "run/data/models", SEA, "--private", "--license", "cc0-1.0"])
    url = f"{hub.site.url}/{SEA}/commit/{COMMIT}"
    assert capsys.readouterr().out == f"{SEA}: done, see {url}\n"
    assert hub.made == [{"name": "sea", "organization": "someone", "visibility": "private"}]
    assert hub.tokens - {None} == {"Bearer hf_secret"}
    files = hub.pushed[f"{SEA}@main"]
    for name, content in files.items():
        Path("got", name).parent.mkdir(parents=True, exist_ok=True)
        Path("got", name).write_bytes(content)
    check_sums(Path("got"))
    assert "license: cc0-1.0\n" in files[CARD].decode()
    assert f'from_pretrained("{SEA}")' in files[CARD].decode()
    assert re.search(
        r"`unet` \d\.\d\d M parameters in float32, .*`code_table` without the images'",
        files[CARD].decode(),
    )
    main(["sample", "run/data/models", "--seeds", "0:2", "--out", "expected"])
    main(["sample", "got", "--seeds", "0:2", "--out", "out"])
    assert hashes(Path("out")) == hashes(Path("expected"))


@pytest.mark.usefixtures("work")
def test_a_saved_folder_is_pushed_as_it_is(hub: Hub):
    save("pipe", "saved")
    expected = contents(Path("saved"))
    Path("saved/.env").write_text("secret")
    Path("saved/unet/training.pkl").write_text("secret")
    main(["push", "saved", SEA, "--revision", "v2"])
    assert hub.pushed == {f"{SEA}@v2": expected}
    main(["push", "pipe", SEA])  # which has no card
    assert {CARD, SUMS} <= set(hub.pushed[f"{SEA}@main"])
    Path("saved", SUMS).unlink()
    main(["push", "saved", SEA, "--revision", "v3"])
    assert {CARD, SUMS} <= set(hub.pushed[f"{SEA}@v3"])


@pytest.mark.parametrize(
    ("refused_with", "message"),
    [
        (401, "found HTTP 401, expected an existing model that all may read, or a token"),
        (403, "found HTTP 403, expected an existing model that all may read, or a token"),
        (400, "found HTTP 400: Bad request"),
    ],
)
def test_a_refused_push_is_one_line(work: Path, hub: Hub, refused_with: int, message: str):
    hub.refusal = refused_with
    assert re.match(f"{SEA}: {message}", refused(work, "push", "pipe", SEA))


@pytest.mark.parametrize("name", ["sea", "a/b/c", f"{SEA}@main", "/a/b"])
def test_a_push_needs_owner_and_name(work: Path, hub: Hub, name: str):
    message = f"repository: found {name}, expected OWNER/NAME"
    assert refused(work, "push", "pipe", name) == message
    assert hub.made == []


def test_a_damaged_folder_is_not_pushed(work: Path, hub: Hub):
    save("pipe", "saved")
    damaged(work / "saved")
    assert "found sha256" in refused(work, "push", "saved", SEA)
    assert hub.made == []


def test_pushing_without_network_is_one_line(work: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch):
    del hub
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert refused(work, "push", "pipe", SEA).startswith(f"{SEA}: ")
