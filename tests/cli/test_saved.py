"""`patchdm save`, the defaults that a saved model carries, and the bundled model."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from patchdm import saved
from patchdm.cli.app import main
from patchdm.errors import PatchDMError
from patchdm.files import sha256
from patchdm.formats.images import read_image
from patchdm.pipeline import PatchDMPipeline
from patchdm.saved import CARD, INDEX, SUMS
from tests.cli.runs import STEPS, hashes, hole, refused
from tests.conftest import REPO
from tests.photographs import contents

RUN = "run/data/models"
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def save(model: str, out: str, *flags: str) -> Path:
    main(["save", model, out, *flags])
    return Path(out)


def sampled(*flags: str, out: str) -> dict[int, str]:
    main(["sample", *flags, "--seeds", "0:2", "--out", out])
    return hashes(Path(out))


def settings(out: str) -> dict[str, object]:
    return json.loads(Path(out, "samples.json").read_text())


@pytest.mark.usefixtures("work")
def test_a_saved_run_samples_and_restores_as_the_run():
    folder = save(RUN, "saved")
    shutil.copytree(folder, "elsewhere/alone")
    assert sampled("elsewhere/alone", out="out") == sampled(RUN, out="expected")
    for model, name in ((RUN, "a.png"), ("elsewhere/alone", "b.png")):
        main(["inpaint", model, "photo.png", "mask.png", "--out", name])
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()  # by a fitted code
    main(["outpaint", "elsewhere/alone", "photo.png", "--left", "8", "--out", "c.png"])


@pytest.mark.usefixtures("work")
def test_options_win_over_the_defaults_of_a_saved_model():
    save(RUN, "saved")
    sampled("saved", out="out")
    sampled("saved", "--steps", "3", "--tiling", "blend", "--solver", "unipc", out="out2")
    assert settings("out")["num_inference_steps"] == 2
    changed = settings("out2")
    assert (changed["num_inference_steps"], changed["tiling"]) == (3, "blend")
    assert changed["solver"] == "UniPCMultistepScheduler"
    assert changed["guidance_interval"] == settings("out")["guidance_interval"]


@pytest.mark.usefixtures("work")
def test_defaults_survive_and_serve_python():
    pipe = PatchDMPipeline.from_pretrained(save(RUN, "saved"))
    defaults = pipe.config.defaults
    assert defaults["sample"]["num_inference_steps"] == 2
    pipe.save_pretrained("again")
    assert PatchDMPipeline.from_pretrained("again").config.defaults == defaults
    assert PatchDMPipeline.from_pipe(pipe).config.defaults == defaults
    assert len(pipe(2, **defaults["sample"]).images) == 2


@pytest.mark.usefixtures("work")
@pytest.mark.parametrize("change", [{"tiling": "woven"}, {"num_inference_steps": 0}, {"x": 1}])
def test_wrong_defaults_are_passed_over(change: dict[str, object], caplog):
    index = save(RUN, "saved") / "model_index.json"
    values = json.loads(index.read_text())
    values["defaults"]["sample"] |= change
    index.write_text(json.dumps(values))
    saved.write_sums(Path("saved"))
    sampled("saved", *STEPS, out="out")
    assert f"sample.{next(iter(change))}: " in caplog.text
    assert "warning: saved: passed over the defaults of model_index.json: " in caplog.text


@pytest.mark.usefixtures("work")
@pytest.mark.parametrize(("half", "dtype"), [("fp16", "float16"), ("bf16", "bfloat16")])
def test_half_precision_is_how_weights_are_stored(half: str, dtype: str):
    whole, folder = save(RUN, "whole"), save(RUN, "saved", "--half", half)
    sizes = [(path / WEIGHTS).stat().st_size for path in (whole, folder)]
    assert sizes[1] < 0.6 * sizes[0]
    assert dtype in (folder / CARD).read_text()
    pipe = PatchDMPipeline.from_pretrained(folder)
    assert {part.dtype for part in pipe.components.values() if hasattr(part, "dtype")} == {
        torch.float32
    }
    sampled("saved", out="out")
    sampled("whole", out="expected")
    images = [
        read_image(Path(out, "000000", "000000.png")).astype(int) for out in ("out", "expected")
    ]
    assert np.abs(images[0] - images[1]).mean() < 4


@pytest.mark.usefixtures("work")
def test_weights_that_are_too_large_for_half_precision_are_refused(work: Path):
    pipe = PatchDMPipeline.from_pretrained("pipe")
    torch.nn.init.constant_(pipe.latent.head.bias, 1e6)
    pipe.save_pretrained("large")
    answer = refused(work, "save", "large", "out", "--half", "fp16")
    assert answer == "--half: found fp16, which weights of latent are too large for"


def test_a_saved_folder_is_compact_and_says_nothing_of_this_host(work: Path):
    folder = save(str(work / RUN), str(work / "saved"))
    table = PatchDMPipeline.from_pretrained(folder).code_table
    assert len(table.codes) == table.config.num_images == 0
    assert table.whitening.projection.abs().sum() > 0
    assert not [name for name, text in contents(folder).items() if str(work).encode() in text]
    assert not [name for name, text in contents(folder).items() if b"run/data" in text]
    lines = (folder / SUMS).read_text().splitlines()
    assert dict(line.split("  ")[::-1] for line in lines) == {
        name: sha256(folder / name) for name in contents(folder) if name not in (CARD, SUMS)
    }


def test_the_card_has_what_the_run_has_left(work: Path):
    shutil.copytree(work / "run", work / "full")
    (work / "full/data/raw").mkdir()
    licences = pd.DataFrame({"licence": ["CC0", "CC0", "public domain"]})
    licences.to_parquet(work / "full/data/raw/manifest.parquet")
    metrics = {
        "fid_samples": 101.1, "kid_samples": 0.07, "fid_test": 131.5, "n_train": 112, "n_test": 29,
        "n_samples": 224, "extractor": "efficientnet-lite0",
        "nearest": {"pixels": {"nearer_than_held_out": 0.72}},
        "unet_weights_hash": sha256(work / "full/data/models/patchdm" / WEIGHTS),
    }  # fmt: skip
    (work / "full/reports").mkdir(exist_ok=True)
    (work / "full/reports/metrics.json").write_text(json.dumps(metrics))
    text = (save("full/data/models", "saved", "--license", "apache-2.0") / CARD).read_text()
    assert text.startswith("---\n")
    for part in (
        "license: apache-2.0\n", "3 photographs (CC0: 2, public domain: 1)", "112 training images",
        "| samples | 101.1 | 0.07 |", "| held-out photographs | 131.5 |  |", "72% by pixels",
        "images of 32x16 in patches of 8", "64 windows in batches of 8", "## Limits",
        '"num_inference_steps": 2',
    ):  # fmt: skip
        assert part in text, part
    (work / "full/reports/metrics.json").write_text(json.dumps(metrics | {"unet_weights_hash": ""}))
    assert "## Metrics" not in (save("full/data/models", "other") / CARD).read_text()
    (work / "saved" / CARD).write_text("# By hand")
    assert (save("saved", "third") / CARD).read_text() == "# By hand"


@pytest.mark.usefixtures("work")
def test_a_card_that_goes_on_stays_true():
    first = save(RUN, "first", "--license", "apache-2.0")
    (first / CARD).write_text((first / CARD).read_text() + "\n## By hand\n\nKept.\n")
    folder = save("first", "second", "--half", "bf16", "--license", "cc0-1.0")
    text = (folder / CARD).read_text()
    assert "license: cc0-1.0\n" in text
    assert text.count("## Model") == 1
    assert "bfloat16" in text
    assert "float32" not in text
    assert text.endswith("\n## By hand\n\nKept.\n")
    assert "first" not in (folder / INDEX).read_text()


@pytest.mark.usefixtures("work")
def test_without_a_latent_model_samples_have_no_code(caplog: pytest.LogCaptureFixture):
    shutil.copytree("pipe", "alone")
    index = Path("alone", INDEX)
    nothing = {key: [None, None] for key in ("latent", "latent_scheduler")}
    index.write_text(json.dumps(json.loads(index.read_text()) | nothing))
    sampled("alone", out="out")
    assert "warning: alone: found no latent model" in caplog.text


def test_a_part_that_is_missing_is_named(work: Path):
    shutil.copytree("pipe", "lacking")
    shutil.rmtree("lacking/latent_scheduler")
    answer = refused(work, "sample", "lacking", "--seeds", "0:1", "--out", "out")
    assert answer.startswith("lacking/latent_scheduler: not found, expected a part that ")


def test_weights_of_other_formats_are_not_loaded(work: Path):
    shutil.copytree("pipe", "other")
    (work / "other" / WEIGHTS).rename(work / "other" / Path(WEIGHTS).with_suffix(".bin"))
    answer = refused(work, "sample", "other", "--seeds", "0:1", "--out", "out")
    assert "no readable model" in answer
    assert "safetensors" in answer


@pytest.mark.usefixtures("work")
@pytest.mark.parametrize(
    ("name", "found"), [("nothere", "not found"), ("photo.png", "found a file")]
)
def test_names_of_no_model_are_refused_in_python(name: str, found: str):
    Path("photo.png").touch()
    with pytest.raises(
        PatchDMError, match=f"^{name}: {found}, expected a folder of save_pretrained"
    ):
        PatchDMPipeline.from_pretrained(name)


@pytest.mark.usefixtures("work")
@pytest.mark.parametrize("model", [RUN, "pipe"])
def test_the_code_of_the_card_runs(model: str):
    text = (save(model, "saved") / CARD).read_text()
    found: dict[str, Any] = {}
    exec(text.partition("```python\n")[2].partition("```")[0], found)
    assert [image.size for image in found["images"]] == [(32, 16)] * 4


def test_no_folder_is_written_over(work: Path):
    assert refused(work, "save", "pipe", "run") == "run: exists, expected a new folder"


# The bundled model


@pytest.fixture
def bundled(work: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A saved model in the place of the bundled one."""
    folder = save(RUN, "patchdm/showcase", "--half", "fp16").resolve()
    monkeypatch.setattr(saved, "BUNDLED", folder)
    (work / "empty").mkdir()
    monkeypatch.chdir(work / "empty")
    return folder


def test_the_bundled_model_is_the_default(bundled: Path, capsys: pytest.CaptureFixture):
    line = "model: bundled patchdm/showcase, 32x16, landscapes\n"
    assert sampled(out="../out") == sampled(str(bundled), out="../expected")
    assert capsys.readouterr().err.startswith(line)
    photo, mask = "../photo.png", "../mask.png"
    main(["inpaint", photo, mask, "--out", "../in.png"])
    assert capsys.readouterr().err.startswith(line)
    known = ~hole(read_image(Path(photo)))
    made = read_image(Path("../in.png"))
    np.testing.assert_array_equal(made[known], read_image(Path(photo))[known])
    main(["outpaint", photo, "--top", "8", "--out", "../wide.png"])
    assert capsys.readouterr().err.startswith(line)


@pytest.mark.usefixtures("bundled")
def test_a_trained_run_comes_first(work: Path, capsys: pytest.CaptureFixture):
    (work / "empty/data").symlink_to(work / "run/data")
    shutil.copy(work / "run/params.yaml", ".")
    assert sampled(out="../out") == sampled("data/models", out="../expected")
    assert "bundled" not in capsys.readouterr().err


def test_the_bundled_model_in_python(bundled: Path):
    pipe = PatchDMPipeline.from_pretrained()
    assert pipe.config.defaults == PatchDMPipeline.from_pretrained(bundled).config.defaults
    damage(bundled)
    with pytest.raises(PatchDMError, match="found sha256"):
        PatchDMPipeline.from_pretrained()


def damage(folder: Path) -> None:
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS).write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (damage, f"{WEIGHTS}: found sha256 "),
        (lambda folder: (folder / WEIGHTS).unlink(), f"{WEIGHTS}: found no file, expected sha256 "),
        (lambda folder: (folder / "more.json").write_text("{}"), "more.json: found sha256 "),
        (lambda folder: (folder / SUMS).write_bytes(b"\xff\n"), "found "),
        (lambda folder: (folder / SUMS).unlink(), "model: none is named and none is bundled"),
        (shutil.rmtree, "model: none is named and none is bundled, expected a folder of"),
    ],
)
def test_a_damaged_bundled_model_is_refused(
    work: Path, bundled: Path, spoil: Callable[[Path], None], message: str
):
    spoil(bundled)
    assert message in refused(work, "sample", "--seeds", "0:1", "--out", "out")


def test_the_card_of_a_saved_model_may_be_edited(bundled: Path):
    (bundled / CARD).write_text("# By hand")
    assert sampled(out="../out")


def test_the_wheel_has_every_file_of_the_bundled_model(bundled: Path):
    project = tomllib.loads((REPO / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["patchdm"]
    files = [PurePosixPath("showcase", name) for name in contents(bundled)]
    assert [file for file in files if not any(map(file.match, patterns))] == []
    assert saved.__file__ is not None
    assert Path(saved.__file__).parent == REPO / "patchdm"
