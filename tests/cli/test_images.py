"""`patchdm sample`, `inpaint` and `outpaint` on the models of a run and of a pipeline folder."""

from __future__ import annotations

import json
import multiprocessing
import random
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from patchdm.cli.app import main
from patchdm.config import load_params
from patchdm.formats.images import read_image
from patchdm.formats.shards import read_images
from stages._common import SAMPLES
from tests.cli.runs import HEIGHT, SAMPLE, STEPS, WIDTH, hashes, hole, refusal
from tests.formats.profiles import PROFILES, into, seen
from tests.photographs import contents
from tests.stages.models import small_params, write_params


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
    flags = ["--size", "40x24", "--solver", "unipc", "--tiling", "blend", "--guidance", "0.5"]
    flags += ["--positions", "rescale", "--rows-per-chunk", "1", "--batch", "2"]
    flags += ["--format", "webdataset", "--shard-size", "3", *STEPS]
    main(["sample", "pipe", "--seeds", "0:5", "--out", "out", *flags])
    assert {path.name for path in Path("out").glob("*.tar")} == {"000000.tar", "000003.tar"}
    assert {image.shape for _, image in read_images(Path("out"))} == {(24, 40, 3)}
    settings = json.loads(Path("out/samples.json").read_text())
    expected = {
        "num_inference_steps": 2,
        "solver": "UniPCMultistepScheduler",
        "tiling": "blend",
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
@pytest.mark.parametrize("command", ["inpaint", "outpaint"])
def test_a_larger_photograph_is_worked_on_at_the_models_size(
    command: str, capsys: pytest.CaptureFixture[str]
):
    photo = np.asarray(Image.open("photo.png").convert("RGB").resize((97, 53)))
    Image.fromarray(photo).save("large.png")
    mask = np.zeros(photo.shape[:2], bool)
    mask[10:41, 30:70] = True
    Image.fromarray(mask).save("hole.png")
    what = {"inpaint": ["hole.png"], "outpaint": ["--right", "20"]}[command]
    made = {}
    for name, more in {"small": [], "native": ["--native"]}.items():
        main([command, "pipe", "large.png", *what, "--out", f"{name}.png", *STEPS, *more])
        made[name] = read_image(Path(f"{name}.png"))
    said = capsys.readouterr().err
    assert said.count("makes images of 32x16, so") == 1
    known = (
        np.pad(~mask, [(0, 0), (0, made["small"].shape[1] - 97)])
        if command == "inpaint"
        else (np.arange(117) < 97)[None].repeat(53, axis=0)
    )
    whole = np.pad(photo, [(0, 0), (0, known.shape[1] - 97), (0, 0)])
    for image in made.values():
        np.testing.assert_array_equal(image[known], whole[known])
    steps = {name: np.abs(np.diff(image.astype(int), axis=1)) for name, image in made.items()}
    unknown = ~known[:, 1:] & ~known[:, :-1]
    assert steps["small"][unknown].mean() < 0.7 * steps["native"][unknown].mean()  # it is enlarged


@pytest.mark.usefixtures("work")
def test_a_native_photograph_goes_on_by_what_is_near():
    photo = np.asarray(Image.open("photo.png").convert("RGB").resize((96, 16)))
    Image.fromarray(photo).save("wide.png")
    Image.fromarray(photo[:, -32:]).save("near.png")  # as wide as the training images
    for name in ("wide", "near"):
        command = ["outpaint", "pipe", f"{name}.png", "--right", "16", "--native", *STEPS]
        main([*command, "--out", f"{name}-made.png"])
    wide, near = (read_image(Path(f"{name}-made.png")) for name in ("wide", "near"))
    np.testing.assert_array_equal(wide[:, :96], photo)
    np.testing.assert_array_equal(wide[:, 96:], near[:, 32:])


@pytest.mark.usefixtures("work")
def test_a_code_seed_gives_one_code_to_all_sizes_and_seeds():
    command = ["sample", "run/data/models", *STEPS, "--seeds"]
    main([*command, "5:6", "--out", "own"])
    main([*command, "5:7", "--out", "named", "--code-seed", "5"])
    main([*command, "5:7", "--out", "free"])
    main([*command, "5:6", "--out", "wide", "--code-seed", "5", "--size", "64x16"])
    own, named, free = (hashes(Path(folder)) for folder in ("own", "named", "free"))
    assert own[5] == named[5] == free[5]
    assert named[6] != free[6]


@pytest.mark.usefixtures("work")
def test_a_size_far_beyond_training_is_told(caplog: pytest.LogCaptureFixture):
    command = ["sample", "run/data/models", "--seeds", "0:1", *STEPS]
    main([*command, "--out", "far", "--size", "32x32"])
    assert "--size 32x32 is far beyond the training size, 32x16" in caplog.text
    caplog.clear()
    main([*command, "--out", "near", "--size", "64x24"])
    assert not caplog.text


@pytest.mark.usefixtures("work")
def test_the_canvas_of_outpainting_is_told(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
):
    command = ["outpaint", "pipe", "photo.png", "--out", "out.png", *STEPS]
    main([*command, "--right", "9"])
    assert "canvas: 48x24 pixels, 18 patches of 8, 0.0" in capsys.readouterr().err
    assert not caplog.text
    main([*command, "--right", "100", "--code", "latent"])
    assert "a canvas of 136x24 is far beyond the training size, 32x16: one code" in caplog.text
    caplog.clear()
    photo = Image.open("photo.png").resize((96, 48))
    photo.save("large.png")
    main(["outpaint", "pipe", "large.png", "--right", "90", "--out", "out.png", *STEPS])
    said = capsys.readouterr().err
    assert "so 186x48 pixels are worked on as 64x16" in said
    assert "canvas: 64x16 pixels, 16 patches of 8," in said
    main(["outpaint", "pipe", "large.png", "--right", "9", "--native", "--out", "out.png", *STEPS])
    assert "canvas: 48x48 pixels, 36 patches of 8," in capsys.readouterr().err  # what is near


@pytest.mark.usefixtures("work")
@pytest.mark.parametrize("command", ["inpaint", "outpaint", "panorama"])
def test_the_fit_of_a_code_is_shown(command: str, capsys: pytest.CaptureFixture[str]):
    what = {
        "inpaint": ["photo.png", "mask.png", "--seeds", "0:2"],
        "outpaint": ["photo.png", "--right", "9", "--seeds", "0:2"],
        "panorama": ["--image", "photo.png", "--size", "40x24", "--solver", "ddim"],
    }[command]
    main([command, "run/data/models", *what, "--out", "out.png", *STEPS])
    said = capsys.readouterr().err
    assert said.count("fit: 1 of 1 steps, done in ") == (1 if command == "panorama" else 2)


@pytest.mark.usefixtures("work")
def test_inpainting_follows_the_precision_of_the_run():
    command = ["inpaint", "run/data/models", "photo.png", "mask.png", "--out", "out.png"]
    made = {}
    for name in ("no", "bf16", "fp16"):
        main([*command, "--mixed-precision", name])
        made[name] = Path("out.png").read_bytes()
    assert len(set(made.values())) == 3
    run = load_params(Path("run/params.yaml"))
    sample = run.sample.model_copy(update={"mixed_precision": "bf16"})
    write_params(Path("run/params.yaml"), run.model_copy(update={"sample": sample}))
    main(command)
    assert Path("out.png").read_bytes() == made["bf16"]


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
