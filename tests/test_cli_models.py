"""`patchdm sample`, `inpaint` and `outpaint` on the models of a run and of a pipeline folder."""

from __future__ import annotations

import json
import multiprocessing
import random
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from patchdm.cli.app import main
from patchdm.formats.images import read_image, save_png
from patchdm.formats.shards import read_images, read_manifest
from patchdm.models import CodeTable
from patchdm.pipeline import PatchDMPipeline
from stages._common import LATENT, PATCHDM, SAMPLES
from stages.sample import sample
from tests.formats.profiles import PROFILES, into, seen
from tests.photographs import contents
from tests.stages.models import small_params, write_models, write_params
from tests.test_cli import refusal

MODELS = "data/models"
HEIGHT, WIDTH, P = 16, 32, 8
SAMPLE = {"num_images": 4, "shard_size": 2, "batch_size": 2, "num_steps": 2}
APPLICATIONS = {"num_steps": 2, "resamplings": 2, "code_steps": 1, "code_windows": 1}
STEPS = ["--steps", "2"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run in `run`, its models as a pipeline in `pipe`, a photograph and a mask."""
    folder = tmp_path_factory.mktemp("cli")
    with pytest.MonkeyPatch.context() as patch:
        (folder / "run").mkdir()
        patch.chdir(folder / "run")
        params = small_params(
            sample=SAMPLE,
            applications=APPLICATIONS,
            latent={"num_steps": 2},
            evaluate={"kid_subset_size": 2, "nearest_k": 1},
        )
        write_params(Path("params.yaml"), params)
        write_models(params)
        features = np.random.default_rng(0).normal(size=(20, 1280))
        table = CodeTable.from_features(features, params.model.code_dim, "efficientnet-lite0")
        table.save_pretrained(PATCHDM / "code_table")
        sample(params)
        pipe = PatchDMPipeline.from_stages(PATCHDM, LATENT)
        pipe.unet.register_to_config(unconditional=True)
        pipe.save_pretrained(folder / "pipe")
    noise = np.random.default_rng(1).integers(0, 256, (21, 35, 3), np.uint8)
    save_png(folder / "photo.png", noise)
    save_png(folder / "mask.png", np.stack([hole(noise)] * 3, axis=2).astype(np.uint8) * 255)
    return folder


@pytest.fixture
def work(folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder beside those."""
    for name in ("run", "pipe", "photo.png", "mask.png"):
        (tmp_path / name).symlink_to(folders / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def hole(photo: np.ndarray) -> np.ndarray:
    mask = np.zeros(photo.shape[:2], bool)
    mask[4:17, 11:22] = True
    return mask


def hashes(folder: Path) -> dict[int, str]:
    manifest = read_manifest(folder)
    return dict(zip(manifest["seed"], manifest["sha256"], strict=True))


def test_a_run_samples_as_its_stage_does(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.chdir(folders / "run")
    out = tmp_path / "out"
    main(["sample", "--seeds", "1:6", "--out", str(out)])
    assert capsys.readouterr().out == f"{out}: done\n"
    assert list(hashes(out)) == [1, 2, 3, 4, 5]
    stage = hashes(SAMPLES)
    assert {seed: hashes(out)[seed] for seed in (1, 2, 3)} == {s: stage[s] for s in (1, 2, 3)}


@pytest.mark.parametrize(
    ("where", "model"),
    [
        (".", "run/data/models"),
        ("run", "data/models/"),
        ("run/data", "models"),
        ("run/data/models", "."),
        ("run/data/models/patchdm", ".."),
        (".", "link"),
    ],
)
def test_a_model_gives_equal_images_however_it_is_named(
    work: Path, monkeypatch: pytest.MonkeyPatch, where: str, model: str
):
    (work / "link").symlink_to(work / "run/data/models")
    monkeypatch.chdir(work / where)
    main(["sample", model, "--seeds", "0:2", "--out", str(work / "out")])
    stage = hashes(work / "run" / SAMPLES)
    assert hashes(work / "out") == {seed: stage[seed] for seed in (0, 1)}


@pytest.mark.parametrize("place", ["x/models", "data/models"])
@pytest.mark.parametrize("text", ["lr: 0.1", "another network"])
def test_params_of_another_project_are_not_read(
    work: Path, caplog: pytest.LogCaptureFixture, place: str, text: str
):
    shutil.copytree(work / "run/data/models", work / "other" / place)
    if text == "another network":
        other = small_params(sample=SAMPLE | {"num_steps": 3}, model={"res_blocks": 2})
        write_params(work / "other/params.yaml", other)
    else:
        (work / "other/params.yaml").write_text(text)
    main(["sample", f"other/{place}", "--seeds", "0:1", "--out", "out"])
    settings = json.loads((work / "out/samples.json").read_text())
    assert settings["num_inference_steps"] == 50
    assert caplog.text.count("passed over") == (place == "data/models")


@pytest.mark.parametrize("command", ["sample", "inpaint"])
@pytest.mark.usefixtures("work")
def test_guidance_is_refused_where_the_model_was_not_trained_for_it(command: str):
    flags = {
        "sample": ["run/data/models", "--seeds", "0:1", "--out", "out"],
        "inpaint": ["run/data/models", "photo.png", "mask.png", "--out", "out.png"],
    }[command]
    message = refusal(command, *flags, "--guidance", "5", *STEPS)
    assert message.startswith("`guidance_scale` is 5.0, expected 0: the network was not trained")
    assert not Path("out").exists()


@pytest.mark.usefixtures("work")
def test_a_pipeline_samples_as_it_is_told():
    flags = ["--size", "40x24", "--solver", "unipc", "--tiling", "average", "--guidance", "0.5"]
    flags += ["--positions", "rescale", "--rows-per-chunk", "1", "--batch", "2"]
    flags += ["--format", "webdataset", "--shard-size", "3", *STEPS]
    main(["sample", "pipe", "--seeds", "0:5", "--out", "out", *flags])
    assert {path.name for path in Path("out").glob("*.tar")} == {"000000.tar", "000003.tar"}
    assert {image.shape for _, image in read_images(Path("out"))} == {(24, 40, 3)}
    settings = json.loads(Path("out/samples.json").read_text())
    expected = {
        "num_inference_steps": 2,
        "solver": "UniPCMultistepScheduler",
        "tiling": "average",
        "positions": "rescale",
        "guidance_scale": 0.5,
        "format": "webdataset",
        "shard_size": 3,
        "width": 40,
    }
    assert expected.items() <= settings.items()


@pytest.mark.usefixtures("work")
def test_the_size_is_that_of_the_training_images():
    main(["sample", "pipe", "--seeds", "0:1", "--out", "out", *STEPS])
    assert next(read_images(Path("out")))[1].shape == (HEIGHT, WIDTH, 3)


@pytest.mark.usefixtures("work")
def test_grid_lays_out_the_images(capsys: pytest.CaptureFixture):
    main(["sample", "pipe", "--seeds", "0:5", "--out", "out", "--grid", *STEPS])
    assert capsys.readouterr().out == "out: done, see out/grid.png\n"
    images = [image for _, image in read_images(Path("out"))]
    grid = read_image(Path("out/grid.png"))
    np.testing.assert_array_equal(grid[:HEIGHT, :WIDTH], images[0])
    np.testing.assert_array_equal(grid[HEIGHT + 2 : 2 * HEIGHT + 2, :WIDTH], images[2])


def fork(out: str) -> multiprocessing.context.ForkProcess:
    argv = ["sample", "pipe", "--seeds", "0:40", "--out", out, "--shard-size", "4", "--batch", "1"]
    process = multiprocessing.get_context("fork").Process(target=main, args=([*argv, *STEPS],))
    process.start()
    return process


@pytest.mark.usefixtures("work")
def test_the_same_command_goes_on_after_a_kill_and_shares_the_work(capfd: pytest.CaptureFixture):
    whole = fork("whole")
    killed = fork("out")
    while not list(Path("out").rglob("*.png")):
        time.sleep(0.005)
    time.sleep(random.uniform(0, 0.2))
    killed.kill()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    assert not Path("out/manifest.parquet").exists()
    for process in (*(fork("out") for _ in range(2)), whole):
        process.join(60)
        assert process.exitcode == 0
    found = [
        {name: content for name, content in contents(Path(out)).items() if name[0] != "."}
        for out in ("out", "whole")
    ]
    assert found[0] == found[1]
    assert "out: done\n" in capfd.readouterr().out


@pytest.mark.usefixtures("work")
def test_inpainting_keeps_what_is_not_masked():
    main(["inpaint", "run/data/models", "photo.png", "mask.png", "--out", "a.png"])
    photo, made = read_image(Path("photo.png")), read_image(Path("a.png"))
    mask = hole(photo)
    np.testing.assert_array_equal(made[~mask], photo[~mask])
    assert (made[mask] != photo[mask]).mean() > 0.9
    main(["inpaint", "pipe", "photo.png", "mask.png", "--out", "b.png", "--seeds", "3:5", *STEPS])
    versions = [read_image(Path(f"b-00000{seed}.png")) for seed in (3, 4)]
    assert (versions[0][mask] != versions[1][mask]).mean() > 0.9
    np.testing.assert_array_equal(versions[0][~mask], photo[~mask])


@pytest.mark.usefixtures("work")
@pytest.mark.parametrize("suffix", [".jpg", ".tiff", ".avif"])
def test_known_pixels_are_kept_as_seen(suffix: str):
    """The photograph has a profile; the PNG has none, which is sRGB wherever it is shown."""
    profile, photo = PROFILES["ProPhoto"], Image.open("photo.png").convert("RGB")
    into(photo, profile).save(f"wide{suffix}", icc_profile=profile, quality=95)
    stored = Image.open(f"wide{suffix}").convert("RGB")
    expected = seen(stored, profile)
    assert np.abs(expected - np.asarray(stored).astype(int)).max() > 8
    mask = hole(np.asarray(stored))
    main(["inpaint", "pipe", f"wide{suffix}", "mask.png", "--out", "a.png", *STEPS])
    main(["outpaint", "pipe", f"wide{suffix}", "--right", "8", "--out", "b.png", *STEPS])
    assert "icc_profile" not in Image.open("a.png").info
    assert np.abs(read_image(Path("a.png")) - expected)[~mask].max() <= 1
    assert np.abs(read_image(Path("b.png"))[:, : stored.width] - expected).max() <= 1


@pytest.mark.parametrize("out", ["photo.png", "mask.png", "./photo.png"])
def test_image_and_mask_are_not_written_over(work: Path, out: str):
    before = [(work / name).read_bytes() for name in ("photo.png", "mask.png")]
    with pytest.raises(SystemExit, match="^error: --out: found .*, which is the image or mask"):
        main(["inpaint", "pipe", "photo.png", "mask.png", "--out", out, *STEPS])
    assert [(work / name).read_bytes() for name in ("photo.png", "mask.png")] == before


@pytest.mark.usefixtures("work")
def test_options_of_inpainting_reach_the_model():
    command = ["inpaint", "pipe", "photo.png", "mask.png", *STEPS]
    made = []
    for changes in (
        ["--resamplings", "1"],
        ["--resamplings", "2"],
        ["--resamplings", "1", "--blend-width", "0"],
        ["--resamplings", "1", "--tiling", "blend"],
    ):
        main([*command, "--out", "out.png", *changes])
        made.append(Path("out.png").read_bytes())
    assert len(set(made)) == len(made)


@pytest.mark.usefixtures("work")
def test_outpainting_keeps_the_image():
    margins = ["--right", "9", "--top", "2"]
    main(["outpaint", "pipe", "photo.png", *margins, "--out", "new/out.png", *STEPS])
    photo, made = read_image(Path("photo.png")), read_image(Path("new/out.png"))
    assert made.shape == (21 + 2, 35 + 9, 3)
    np.testing.assert_array_equal(made[2:, :35], photo)


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Return what lies in a folder, with the content of files."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def refused(work: Path, *argv: str) -> str:
    """Return the line that refuses a command, which must leave everything as it was."""
    before = snapshot(work)
    message = refusal(*argv)
    assert snapshot(work) == before
    return message


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
        (["--size", "32x0"], "--size: found 32x0, expected WIDTHxHEIGHT"),
        (["--size", "32"], "--size: found 32, expected WIDTHxHEIGHT, e.g. 1024x512"),
        (["--size=-8x16"], "--size: found -8x16, expected"),
        (["--steps", "0"], "--steps: found 0, expected at least 1"),
        (["--steps", "many"], "--steps: found many, expected at least 1"),
        (["--steps", "1001"], "DDIMScheduler takes no 1001 steps: "),
        (["--guidance=-1"], "--guidance: found -1, expected at least 0"),
        (["--guidance", "nan"], "--guidance: found nan, expected at least 0"),
        (["--batch", "0"], "--batch: found 0, expected at least 1"),
        (["--shard-size", "0"], "--shard-size: found 0, expected at least 1"),
        (["--rows-per-chunk", "0"], "--rows-per-chunk: found 0, expected at least 1"),
        (["--solver", "euler"], "--solver: found euler, expected ddim, dpm-solver++, unipc"),
        (
            ["--tiling", "tiles"],
            "--tiling: found tiles, expected shifted, alternate, average, blend",
        ),
        (["--positions", "left"], "--positions: found left, expected extrapolate, rescale"),
        (["--format", "jpeg"], "--format: found jpeg, expected png, webdataset"),
        (["--device", "abacus"], "--device: found abacus"),
        (["--out", "photo.png"], "photo.png: found a file, expected a folder"),
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


@pytest.mark.parametrize("model", ["nowhere", "photo.png", "stabilityai/sd-turbo"])
def test_a_missing_model_is_not_looked_for_elsewhere(work: Path, model: str):
    answer = refused(work, "sample", model, "--seeds", "0:2", "--out", "out")
    assert answer.startswith(f"{model}: found neither model_index.json nor patchdm/")


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
    ],
    ids=str,
)
def test_outpaint_refuses_what_does_not_fit(work: Path, flags: list[str], message: str):
    command = ["outpaint", "pipe", "photo.png", "--out", "out.png", *STEPS, *flags]
    assert refused(work, *command).startswith(message)
