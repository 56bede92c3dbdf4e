"""What `patchdm sample`, `inpaint` and `outpaint` refuse, and leave as it was."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from patchdm.cli import options, restore
from patchdm.cli.app import main
from patchdm.formats import large
from patchdm.formats.images import save_png
from patchdm.pipeline import PatchDMPipeline
from tests.cli.runs import MODELS, STEPS, refusal, refused, snapshot


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seeds", "9:3"], "--seeds: found 9:3, expected FIRST:END with FIRST below END"),
        (["--seeds", "5:5"], "--seeds: found 5:5, expected"),
        (["--seeds", "5"], "--seeds: found 5, expected"),
        (["--seeds", "a:b"], "--seeds: found a:b, expected"),
        (["--seeds=-1:3"], "--seeds: found -1:3, expected"),
        (["--seeds", f"0:{2**64}"], "--seeds: found 0:18446744073709551616, expected"),
        (["--size", "33x16"], "width is 33, expected multiples of the patch size 8"),
        (["--size", "4x16"], "--size: found 4x16, expected 8x8, a patch, or more"),
        (["--size", "32x0"], "--size: found 32x0, expected WIDTHxHEIGHT"),
        (["--size", "32"], "--size: found 32, expected WIDTHxHEIGHT, e.g. 1024x512"),
        (["--size=-8x16"], "--size: found -8x16, expected"),
        (["--steps", "0"], "--steps: found 0, expected at least 1"),
        (["--steps", "many"], "--steps: found many, expected at least 1"),
        (["--steps", "1001"], "`num_inference_steps` is 1001, expected at most 1000"),
        (["--guidance=-1"], "--guidance: found -1, expected at least 0"),
        (["--guidance", "nan"], "--guidance: found nan, expected at least 0"),
        (["--batch", "0"], "--batch: found 0, expected at least 1"),
        (["--shard-size", "0"], "--shard-size: found 0, expected at least 1"),
        (["--rows-per-chunk", "0"], "--rows-per-chunk: found 0, expected at least 1"),
        (["--solver", "euler"], "--solver: found euler, expected ddim, dpm-solver++, unipc"),
        (
            ["--tiling", "tiles"],
            "--tiling: found tiles, expected shifted, blend",
        ),
        (["--positions", "left"], "--positions: found left, expected extrapolate, rescale"),
        (["--format", "jpeg"], "--format: found jpeg, expected png, webdataset"),
        (["--device", "abacus"], "--device: found abacus"),
        (["--out", "run/params.yaml"], "run/params.yaml: found a file, expected a folder"),
        (["--out", "photo.png"], "--out: found photo.png, expected a folder; for a file `patchdm"),
        (
            ["--out", "new/big.tif"],
            "--out: found new/big.tif, expected a folder; for a file `patchdm panorama --size WxH",
        ),
        (["--out", "photo.png/deep"], "photo.png/deep: found a file, expected a folder"),
        (["--out", "run"], "run: found data, expected a new or empty folder, or one of samples"),
    ],
    ids=str,
)
def test_sample_refuses_what_does_not_fit(work: Path, flags: list[str], message: str):
    command = ["sample", "pipe", "--seeds", "0:2", "--out", "out", *STEPS, *flags]
    assert refused(work, *command).startswith(message)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def of_another_kind(model: Path) -> None:
    (model / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')


def not_of_a_run(model: Path) -> None:
    for part in list(model.iterdir()):
        part.rename(model / f"was-{part.name}")


WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize(
    ("source", "spoil", "message"),
    [
        ("pipe", of_another_kind, "model: found a StableDiffusionPipeline, expected a Patch"),
        ("pipe", lambda model: (model / "model_index.json").write_text("text"), "model/model_ind"),
        ("pipe", lambda model: (model / "model_index.json").write_text("[]"), "model/model_index"),
        ("pipe", lambda model: (model / "model_index.json").unlink(), "model: found neither"),
        ("pipe", lambda model: cut(model / "unet" / WEIGHTS), "model: no readable model: "),
        ("pipe", lambda model: (model / "unet" / WEIGHTS).unlink(), "model: no readable model: "),
        ("pipe", lambda model: cut(model / "unet/config.json"), "model: no readable model: "),
        ("run", not_of_a_run, "model: found neither model_index.json nor patchdm/, expected"),
        ("run", lambda m: (m / "latent/scheduler").rename(m / "x"), "no readable model: model/lat"),
        ("run", lambda m: (m / "patchdm/unet").rename(m / "x"), "no readable model: model/patch"),
        ("run", lambda m: cut(m / "latent/latent" / WEIGHTS), "no readable model: "),
        ("run", lambda m: cut(m / "patchdm/unet/config.json"), "no readable model: "),
    ],
)
def test_a_model_of_another_kind_is_refused(
    work: Path, source: str, spoil: Callable[[Path], None], message: str
):
    folder = {"pipe": work / "pipe", "run": work / "run" / MODELS}[source]
    for path in folder.rglob("*"):
        if path.is_file():
            target = work / "model" / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    spoil(work / "model")
    answer = refused(work, "sample", "model", "--seeds", "0:2", "--out", "out", *STEPS)
    assert answer.startswith(message)


def test_without_a_training_size_one_is_needed(work: Path):
    pipe = PatchDMPipeline.from_pretrained(work / "pipe")
    pipe.unet.register_to_config(sample_size=None)
    pipe.save_pretrained(work / "old")
    command = ["sample", "old", "--seeds", "0:1", "--out", "out", *STEPS]
    assert refused(work, *command).startswith("--size: missing, old does not say how large")
    main([*command, "--size", "16x8"])


def test_a_folder_of_other_samples_is_refused(work: Path):
    command = ["sample", "pipe", "--seeds", "0:2", "--out", "out"]
    main([*command, "--steps", "2"])
    answer = refused(work, *command, "--steps", "3")
    assert answer.startswith("out/samples.json: the folder was begun with num_inference_steps 2, ")


@pytest.mark.parametrize("command", ["sample", "outpaint"])
def test_a_full_disk_is_one_line(work: Path, monkeypatch: pytest.MonkeyPatch, command: str):
    save = Image.Image.save

    def saving(image: Image.Image, _path: Path, **options: str) -> None:
        save(image, "/dev/full", **options)

    monkeypatch.setattr(Image.Image, "save", saving)
    flags = {
        "sample": ["pipe", "--seeds", "0:2", "--out", "out"],
        "outpaint": ["pipe", "photo.png", "--right", "8", "--out", "out.png"],
    }[command]
    assert re.fullmatch("out.*: no space left on the disk", refusal(command, *flags, *STEPS))
    assert not [name for name in snapshot(work) if "partial" in name or name.startswith("out.png")]
    assert not list((work / "out").rglob("*.png"))


def image(path: str, height: int, width: int, level: int) -> None:
    save_png(Path(path), np.full((height, width, 3), level, np.uint8))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["photo.png", "small.png"], "small.png: found 34 x 21 pixels, expected 35 x 21 as of"),
        (["photo.png", "black.png"], "black.png: found nothing white, which is where"),
        (["photo.png", "white.png"], "white.png: found nothing but white, which is where"),
        (["photo.png", "none.png"], "none.png: not found"),
        (["none.png", "mask.png"], "none.png: not found"),
        (["photo.png", "pipe/model_index.json"], "pipe/model_index.json: found no image"),
        (["photo.png", "mask.png", "--out", "out.jpg"], "--out: found out.jpg, expected a file"),
        (["photo.png", "mask.png", "--out", "d.png"], "--out: found d.png, expected a file"),
        (["photo.png", "mask.png", "--seeds", "2:1"], "--seeds: found 2:1, expected"),
        (["photo.png", "mask.png", "--code", "x"], "--code: found x, expected image, latent"),
        (
            ["photo.png", "mask.png", "--code", "image"],
            "--code: found image, expected latent without",
        ),
        (["photo.png", "mask.png", "--steps", "0"], "--steps: found 0, expected at least 1"),
        (
            ["photo.png", "mask.png", "--resamplings", "0"],
            "--resamplings: found 0, expected at least 1",
        ),
        (
            ["photo.png", "mask.png", "--blend-width=-1"],
            "--blend-width: found -1, expected at least 0",
        ),
    ],
    ids=str,
)
def test_inpaint_refuses_what_does_not_fit(work: Path, argv: list[str], message: str):
    image("small.png", 21, 34, 255)
    image("black.png", 21, 35, 0)
    image("white.png", 21, 35, 255)
    (work / "d.png").mkdir()
    command = ["inpaint", "pipe", argv[0], argv[1], "--out", "out.png", *STEPS, *argv[2:]]
    assert refused(work, *command).startswith(message)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--left, --top, --right, --bottom: found 0, expected one above 0"),
        (["--left=-3"], "--left: found -3, expected at least 0"),
        (["--top", "much"], "--top: found much, expected at least 0"),
        (
            ["--right", "10000000"],
            "--left, --top, --right, --bottom: found an image of 10000035x21 pixels, expected",
        ),
    ],
    ids=str,
)
def test_outpaint_refuses_what_does_not_fit(work: Path, flags: list[str], message: str):
    command = ["outpaint", "pipe", "photo.png", "--out", "out.png", *STEPS, *flags]
    assert refused(work, *command).startswith(message)


@pytest.mark.parametrize("command", ["inpaint", "outpaint"])
def test_a_canvas_that_the_device_would_not_hold_is_refused(
    work: Path, monkeypatch: pytest.MonkeyPatch, command: str
):
    what = {"inpaint": ["mask.png"], "outpaint": ["--right", "8000"]}[command]
    monkeypatch.setattr(restore, "memory_of", lambda _: 1e5)
    message = refused(work, command, "pipe", "photo.png", *what, "--out", "out.png", *STEPS)
    begin, size, worked_on = {
        "inpaint": ("photo.png", "35x21", "40x24"),
        "outpaint": ("--left, --top, --right, --bottom", "8035x21", "8040x24"),
    }[command]
    found = f"{begin}: found an image of {size} pixels, worked on as {worked_on}, which takes "
    assert message.startswith(found)
    assert message.endswith("expected at most 9e-05 GB, 90% of the device's: make fewer pixels")


def test_a_folder_may_have_the_name_of_a_file(work: Path):
    message = refusal("sample", "pipe", "--seeds", "0:1", "--out", "mine.tif", *STEPS)
    assert message.endswith("`patchdm panorama --size WxH --seeds FIRST:END --out mine.tif`")
    assert options.FILES == large.SUFFIXES
    (work / "mine.tif").mkdir()
    main(["sample", "pipe", "--seeds", "0:1", "--out", "mine.tif", *STEPS])  # a folder of theirs


def test_an_image_that_memory_would_not_hold_is_refused(work: Path):
    command = ["sample", "pipe", "--seeds", "0:1", "--out", "out", *STEPS]
    message = refused(work, *command, "--size", "100000000x100000000")
    assert message.startswith("--size: found an image of 100000000x100000000 pixels, expected at")
