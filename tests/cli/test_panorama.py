"""`patchdm panorama`: files of any size, what a kill leaves, and the page that shows them."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import pyvips
import torch
from PIL import Image

from patchdm.cli.app import main
from patchdm.errors import PatchDMError
from patchdm.formats import large
from patchdm.formats.images import read_image
from patchdm.pipeline import PatchDMPipeline
from patchdm.sampling.seeds import codes_of_seeds
from patchdm.sampling.solve import generators
from tests.cli.runs import HEIGHT, STEPS, WIDTH, refusal
from tests.photographs import contents

MODEL = "run/data/models"
SIZE = ["--size", "75x20"]  # multiples of no patch
SEEDS = ["--seeds", "0:4"]


def made(out: str, *argv: str) -> Path:
    main(["panorama", MODEL, *SIZE, *SEEDS, "--out", out, *STEPS, *argv])
    return Path(out)


@pytest.mark.usefixtures("work")
def test_it_has_any_size_and_leaves_nothing_else(capsys: pytest.CaptureFixture[str]):
    path = made("a.png")
    assert read_image(path).shape == (20, 75, 3)
    assert capsys.readouterr().out == "a.png: done\n"
    assert [each.name for each in Path().glob("a.png*")] == ["a.png"]
    assert made("b.png").read_bytes() == path.read_bytes()
    assert made("c.png", "--codes", "2x2").read_bytes() != path.read_bytes()
    assert made("d.png", "--wrap", "x").read_bytes() != path.read_bytes()


@pytest.mark.usefixtures("work")
def test_a_size_below_a_patch_is_refused():
    message = refusal("panorama", MODEL, *SEEDS, "--size", "75x7", "--out", "a.png", *STEPS)
    assert message == "--size: found 75x7, expected 8x8, a patch, or more"


@pytest.mark.usefixtures("work")
def test_landscapes_above_each_other_are_told(caplog: pytest.LogCaptureFixture):
    made("wide.png")
    assert not caplog.text
    made("high.png", "--size", f"{WIDTH}x{2 * HEIGHT}")
    assert f"--size {WIDTH}x{2 * HEIGHT} is twice as high as the training images" in caplog.text


@pytest.mark.usefixtures("work")
def test_it_begins_as_another_image():
    """One grey half and one noisy: of few steps little changes."""
    pixels = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    pixels[:, WIDTH // 2 :] = 200
    Image.fromarray(pixels).save("photo.png")
    given = ["panorama", MODEL, *SIZE, "--image", "photo.png", "--steps", "4"]
    means = []
    for strength in ("0.25", "1"):
        out = Path(f"{strength}.png")
        main([*given, "--strength", strength, "--out", str(out)])
        found = read_image(out).astype(float)
        means.append(found[:, 45:].mean() - found[:, :30].mean())
    assert means[0] > 2 * abs(means[1])
    main([*given, "--codes", "2x1", "--out", "regions.png"])
    main([*given, "--out", "half.png"])
    assert Path("regions.png").read_bytes() != Path("half.png").read_bytes()


@pytest.mark.usefixtures("work")
def test_a_file_is_replaced_by_force_alone():
    Path("a.png").write_bytes(b"mine")
    given = ["panorama", MODEL, *SIZE, *SEEDS, "--out", "a.png", *STEPS]
    assert refusal(*given) == "--out: found a.png, expected a new file, or --force to replace it"
    assert Path("a.png").read_bytes() == b"mine"
    main([*given, "--force"])
    assert read_image(Path("a.png")).shape == (20, 75, 3)


@pytest.mark.usefixtures("work")
def test_codes_are_those_of_sample():
    pipe = PatchDMPipeline.from_stages(Path(MODEL, "patchdm"), Path(MODEL, "latent"))
    drawn = generators([5])
    pipe.gaussian(1, (3, HEIGHT, WIDTH), drawn)
    expected = pipe.sample_codes(1, drawn, 4)
    codes = codes_of_seeds(pipe, range(4, 10), 4)
    assert codes.shape == (6, expected.shape[1])
    torch.testing.assert_close(codes[1:2], expected)


@pytest.mark.usefixtures("work")
@pytest.mark.parametrize("name", ["a.tif", "a.dzi"])
def test_large_files_have_the_pixels_of_the_small(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(large, "TILE_FORMAT", "png")  # which loses nothing
    monkeypatch.setattr(large, "TILE", 32)
    expected = read_image(made("a.png"))
    path = made(name)
    if name == "a.tif":
        found = pyvips.Image.new_from_file(name)
        assert pyvips.Image.new_from_file(name).get("n-pages") > 1  # smaller ones too
        assert found.get("tile-width") > 0
    else:
        found = pyvips.Image.new_from_file("a_files/7/0_0.png")
        expected = expected[: found.height, : found.width]
        assert (found.width, found.height) == (33, 20)  # with a pixel of the next tile
    np.testing.assert_array_equal(found.numpy()[..., :3], expected)
    assert path.is_file()


@pytest.mark.usefixtures("work")
@pytest.mark.parametrize("most", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_at_any_moment_it_ends_in_the_same_bytes(most: int):
    """SIGKILL again and again, each a little later, until the command reaches its end."""
    whole = made("whole.tif", "--steps", "6").read_bytes()
    command = [sys.executable, "-m", "patchdm", "panorama", MODEL, *SIZE, *SEEDS]
    command += ["--out", "a.tif", "--steps", "6"]
    journal, lines, kills = Path("a.tif.work/journal"), 0, 0
    while not Path("a.tif").exists():
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
        while process.poll() is None:
            done = len(journal.read_text().splitlines()) if journal.exists() else 0
            if done > lines + 1 and kills < most:
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.005)
        _, errors = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), errors
        lines = len(journal.read_text().splitlines()) if journal.exists() else lines
    assert Path("a.tif").read_bytes() == whole
    assert not Path("a.tif.work").exists()


@pytest.mark.usefixtures("work")
def test_killed_while_it_writes_tiles_it_writes_them_again(monkeypatch: pytest.MonkeyPatch):
    made("whole.dzi")

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(large, "replacing", killed)  # the tiles are there, not in their place
        with pytest.raises(SystemExit):
            made("a.dzi")
    assert Path("a.dzi.work/deepzoom/image_files").is_dir()
    made("a.dzi")
    assert contents(Path("a_files")) == contents(Path("whole_files"))
    assert not Path("a.dzi.work").exists()


@pytest.mark.usefixtures("work")
def test_a_network_without_codes():
    shutil.copytree("run/data/models/patchdm", "own/patchdm")
    Path("own/latent").mkdir()
    main(["panorama", "own", *SIZE, *SEEDS, "--out", "a.png", *STEPS])
    assert read_image(Path("a.png")).shape == (20, 75, 3)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--out", "a.jpg"], "--out: found a.jpg, expected a file named .png, .tif, .dzi"),
        (["--out", "run"], "--out: found run, expected a file named .png, .tif, .dzi"),
        (["--codes", "3x1"], "--codes: found 3x1, expected as many as --seeds: 4"),
        (["--codes", "4"], "--codes: found 4, expected COLUMNSxROWS, e.g. 4x2"),
        (["--viewer"], "--viewer: found --out a.png, expected NAME.dzi"),
        (["--solver", "unipc"], "`scheduler` is a UniPCMultistepScheduler, expected DDIMSchedule"),
        (["--size", "0x10"], "--size: found 0x10, expected WIDTHxHEIGHT"),
        (
            ["--size", "65536x16384"],
            "--out: found a.png, expected .tif or .dzi for 1,074 megapixels",
        ),
        (
            ["--positions", "mirror"],
            "--positions: found mirror, expected extrapolate, rescale, reflect, or two",
        ),
        (["--wrap", "z"], "--wrap: found z, expected none, x, y, xy"),
        (
            ["--seeds", "3:4"],
            "--seeds: found 1, expected two or more, or --image; `patchdm sample`",
        ),
        (["--strength", "0.5"], "--strength: found 0.5 without --image"),
        (["--strength", "1.5"], "--strength: found 1.5, expected 0 < S <= 1"),
        (["--strength", "0"], "--strength: found 0, expected 0 < S <= 1"),
        (["--image", "no.png"], "no.png: not found"),
        (["--image", "run/params.yaml"], "run/params.yaml: found no image"),
        (["--image", "a.png"], "a.png: not found"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("work")
def test_refusals(argv: list[str], message: str):
    given = ["panorama", MODEL, *SIZE, *SEEDS, "--out", "a.png", *STEPS]
    assert refusal(*given, *argv).startswith(message)
    assert not Path("a.png").exists()


@pytest.mark.usefixtures("work")
@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--out", "a.bmp"], "--out: found a.bmp, expected a file named .png, .tif, .dzi"),
        (["--codes", "3x2"], "--codes: found 3x2, expected as many as --seeds: 4"),
        (["--viewer"], "--viewer: found --out a.png, expected NAME.dzi"),
        (["--image", "text.png"], "text.png: found no image, it begins with 'text'; "),
        (["--out", "text.png"], "--out: found text.png, expected a new file, or --force"),
    ],
)
def test_it_refuses_before_it_looks_for_a_model(
    argv: list[str], message: str, monkeypatch: pytest.MonkeyPatch
):
    Path("text.png").write_text("text")
    monkeypatch.setattr("patchdm.cli.app._model", lambda _: pytest.fail("it looked for a model"))
    given = ["panorama", MODEL, *SIZE, *SEEDS, "--out", "a.png", *STEPS]
    assert refusal(*given, *argv).startswith(message)


@pytest.mark.usefixtures("work")
def test_a_disk_that_fills_is_named(monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")  # as of a mapped file: no name

    with monkeypatch.context() as patch:
        patch.setattr("patchdm.cli.panorama.write_pixels", full)
        message = refusal("panorama", MODEL, *SIZE, *SEEDS, "--out", "a.png", *STEPS)
    assert (
        message == "a.png.work: no space left on the disk; the same command goes on when there is"
    )
    assert made("a.png").is_file()


def test_what_libvips_cannot_write_is_one_line(tmp_path: Path):
    (tmp_path / "raw").write_bytes(bytes(10))
    with pytest.raises(PatchDMError, match=r"a\.tif: libvips cannot write it: .*too short"):
        large.write_large(tmp_path / "raw", 20, 20, tmp_path / "a.tif")


@pytest.mark.usefixtures("work")
def test_without_libvips_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pyvips", None)
    message = refusal("panorama", MODEL, *SIZE, *SEEDS, "--out", "a.tif", *STEPS)
    assert message.endswith("`pip install 'patchdm[large]'`")
    assert not Path("a.tif.work").exists()


@pytest.mark.usefixtures("work")
def test_another_image_in_the_same_place_is_refused(monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28), "a.png")

    with monkeypatch.context() as patch:
        patch.setattr(large, "save_png", full)
        assert "a.png" in refusal("panorama", MODEL, *SIZE, *SEEDS, "--out", "a.png", *STEPS)
    given = ["panorama", MODEL, *SIZE, "--seeds", "1:5", "--out", "a.png", *STEPS]
    assert refusal(*given).startswith("a.png.work/settings.json: the image was begun with seeds")
    assert read_image(made("a.png")).shape == (20, 75, 3)
