"""What `patchdm plan` counts: against counts by hand, real tensors and the paper."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from patchdm import files
from patchdm.cli import here, plan
from patchdm.cli.app import main
from patchdm.cli.cost import data_cost, fetched
from patchdm.cli.plan import PAPER, Workload, gradient_flops, tabulate, workload
from patchdm.config import Params, load_params
from patchdm.diffusion.schedules import image_scheduler
from patchdm.formats.patch_store import PatchStore
from patchdm.models.build import build_code, build_latent, build_unet
from patchdm.peaks import Peaks
from patchdm.training.image import ImageTraining, window_draw
from tests.conftest import REPO
from tests.stages.tiny import tiny_params, write_tiny_store

PEAKS = Peaks(state=10**9, training=3 * 10**9, sheet=2 * 10**9, first=2 * 10**9, each=10**9 // 2)


@functools.cache
def paper_workload(name: str) -> tuple[Params, Workload]:
    params = load_params(REPO / f"presets/{name}.yaml")
    return params, workload(params, PAPER[name].photographs)


class TwoConvolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"loss": self.second(F.silu(self.first(x))).square().mean()}


def test_gradient_flops_equal_a_count_by_hand():
    with torch.device("meta"):
        flops = gradient_flops(TwoConvolutions(), {"x": torch.empty(2, 3, 6, 10)})
    pixels = 2 * 6 * 10
    first, second = 2 * pixels * 3 * 8 * 3 * 3, 2 * pixels * 8 * 4
    # Forward, gradient of the weights, and of what goes in, which for the image none asks.
    assert flops == 2 * first + 3 * second


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("ffhq256", {"U-Net": 71.40, "encoder": 20.90, "latent model": 54.11}),
        # 3 of 21,443 are held out, the others are there twice
        ("nature1024", {"U-Net": 71.40, "table": 2 * 21_440 * 512e-6, "latent model": 54.11}),
    ],
)
def test_parameters_are_the_papers(name: str, parameters: dict[str, float]):
    params, counted = paper_workload(name)
    found = {part: n / 1e6 for part, n in counted.parameters.items()}
    assert found == pytest.approx(parameters, abs=0.005)
    assert counted.store_bytes == (
        (counted.training_images + 3 * (name == "nature1024") + 7 * (name == "ffhq256"))
        * params.data.width
        * params.data.height
        * 3
    )


@pytest.mark.parametrize(
    ("code", "collage"),
    [
        ("table", "feature"),
        ("encoder", "pixel-fixed"),
        ("none", "pixel-random"),
        ("encoder", "none"),
    ],
)
def test_a_real_step_counts_the_same(tmp_path: Path, landscapes: Path, code: str, collage: str):
    """The plan's inputs have the shapes that the training draws."""
    params = tiny_params(
        model={"code": code, "collage": collage, "attention_levels": [1]},
        train={"batch_size": 3},
    )
    write_tiny_store(tmp_path / "data/patches", landscapes)
    store = PatchStore(tmp_path / "data/patches")
    draw = window_draw(params.model, params.train, params.diffusion, store, seed=0)
    module = ImageTraining(
        build_unet(params.model), build_code(params.model, 18), image_scheduler(params.diffusion)
    )
    # torch counts no fused attention of the CPU
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        module(**draw(range(3)))["loss"].mean().backward()
    assert workload(params, 12).train_flops == counter.get_total_flops() / 3


def tiny_workload(**changes: dict[str, Any]) -> Workload:
    return workload(tiny_params(**changes), 12)


@functools.cache
def sampling_flops(
    rows: int = 2,
    cols: int = 4,
    num_steps: int = 2,
    guidance_scale: float = 0.0,
    tiling: str = "shifted",
    code_steps: int = 4,
) -> int:
    """Count one image of tiny patches."""
    params = tiny_params(
        data={"height": 8 * rows, "width": 8 * cols},
        train={"code_dropout": 0.1, "position_dropout": 0.5},
        latent={"num_steps": code_steps},
        sample={"num_steps": num_steps, "guidance_scale": guidance_scale, "tiling": tiling},
    )
    with torch.device("meta"):
        unet = build_unet(params.model)
        latent = build_latent(params.latent, params.model.code_dim)
    return plan._sampling(params, unet, latent)


def test_a_step_grows_with_the_batch_alone():
    """A window costs what it costs, in any batch of any image size; the encoder sees the image."""
    small = tiny_workload(train={"batch_size": 1})
    large = tiny_workload(train={"batch_size": 16}, data={"width": 64, "height": 32})
    assert large.train_flops == small.train_flops


def test_sampling_encodes_padded_and_decodes_shifted_patches():
    """Cost: a (R+1)(C+1) + b R C + c, so three sizes tell a fourth, and 4 times at large sizes."""
    sizes = [(1, 2), (1, 3), (2, 4), (16, 16)]
    costs = [sampling_flops(rows, cols) for rows, cols in sizes]
    terms = torch.tensor([[(r + 1) * (c + 1), r * c, 1.0] for r, c in sizes], dtype=torch.float64)
    known = torch.tensor(costs, dtype=torch.float64)
    solution = torch.linalg.solve(terms[:3], known[:3])
    assert terms[3] @ solution == pytest.approx(costs[3], rel=1e-9)
    assert 3.7 < sampling_flops(32, 32) / costs[3] < 4


def test_sampling_counts_every_step_and_the_guidance():
    step = sampling_flops(num_steps=3) - sampling_flops(num_steps=2)
    assert sampling_flops(num_steps=7) - sampling_flops(num_steps=2) == 5 * step
    code_step = sampling_flops(code_steps=5) - sampling_flops(code_steps=4)
    once = sampling_flops() - 2 * step - 4 * code_step  # what codes and positions are made into
    assert 0 < once < 0.1 * step
    guided = sampling_flops(guidance_scale=0.5) - 4 * code_step
    assert guided == pytest.approx(4 * step, rel=0.01)  # unknown positions are embedded once


def test_blending_counts_four_grids_in_a_quarter_of_the_steps():
    step = sampling_flops() - sampling_flops(num_steps=1)
    two, four = (sampling_flops(num_steps=8, **tiling) for tiling in ({}, {"tiling": "blend"}))
    grids = 4  # in two of eight steps; three of them have a patch less along an axis or both
    assert two + step < four < two + 2 * (grids - 1) * step


def test_without_a_code_there_is_no_latent_model():
    counted = tiny_workload(model={"code": "none"})
    assert list(counted.parameters) == ["U-Net"]
    assert counted.latent_flops == 0


def test_hours_are_operations_over_rate():
    params, counted = paper_workload("ffhq256")
    table = tabulate(params, counted, PEAKS, 50.0, PAPER["ffhq256"]).set_index("quantity")
    hours = table.loc[["training", "latent training", "50,000 samples"], "value"]
    seconds = 72e6 * counted.train_flops / 50e12
    assert hours["training"] == pytest.approx(seconds / 3600)
    assert hours["50,000 samples"] == pytest.approx(5e4 * counted.sample_flops / 50e12 / 3600)
    # A layer costs two operations a weight forwards and two each for its two gradients.
    assert counted.latent_flops == pytest.approx(6 * 54.11e6, rel=0.01)
    assert hours["latent training"] == pytest.approx(6e7 * counted.latent_flops / 1.8e17)
    assert table.loc["images seen", "paper"] == "72 [C]"
    memory = {quantity: value for quantity, value in table["value"].items() if "GB" in quantity}
    assert memory == {f"sampled at once in {gb} GB": PEAKS.most(gb) for gb in (24, 40, 80)}
    together = params.sample.batch_size
    assert table.loc[f"memory: sampling, {together} at once", "value"] == 2 + 0.5 * (together - 1)
    assert table.loc["all parameters", "paper"] == "146.41 counted, 154 [2nd]"


def test_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(REPO)
    main(["plan", "ffhq256", "--rate", "200"])
    lines = capsys.readouterr().out.splitlines()
    words = {line[:34].rstrip(): line[34:].split() for line in lines}
    assert words["encoder"] == ["20.90", "M", "20.90", "counted"]
    assert words["photographs"] == ["70,000", "70,000"]
    assert words["training"][1] == "h"
    assert "at 200 TFLOP/s" in " ".join(lines)
    assert words["photographs to download"] == ["89.10", "GB"]
    assert max(map(len, lines)) <= 100


def test_command_says_what_a_device_cannot_hold(
    tmp_dir: Path, landscapes: Path, capsys: pytest.CaptureFixture[str]
):
    """After the table, which says how much it is."""
    text = (REPO / "presets/smoke.yaml").read_text()
    text = re.sub("location: .*", f"location: {landscapes}", text.replace("bundled", "folder"))
    (tmp_dir / "presets").mkdir()
    path = tmp_dir / "presets/small.yaml"
    path.write_text(text.replace("device_memory: null", "device_memory: 0.001"))
    with pytest.raises(SystemExit, match=r"^error: train\.micro_batch_size is 16: training needs"):
        main(["plan", "small"])
    assert "memory: training, 16 at once" in capsys.readouterr().out


def test_command_measures_this_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Counts the photographs of a preset that is not the paper's; at last, refuses a full disk."""
    monkeypatch.chdir(REPO)
    monkeypatch.setattr(here, "SECONDS", 0.1)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(SystemExit, match=r"^error: .*: found 1e-08 GB of free disk, expected "):
        main(["plan", "smoke", "--here"])
    lines = capsys.readouterr().out.splitlines()
    (line,) = (line for line in lines if line.startswith("Hours"))
    rate = float(re.match(r"Hours: at (\S+) TFLOP/s achieved \(1 x ", line)[1])
    assert 0 < rate < 1000
    assert any(line.split() == ["photographs", "195"] for line in lines)
    assert any(line.startswith("disk, with DVC's cache") for line in lines)
    assert not any("PAPER" in line for line in lines)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("smoke", []),
        (
            "ffhq256",
            [
                "data/sources/ffhq: not found, put the photographs there",
                "weights: open_clip:ViT-B-16/openai, from its authors",
                "weights: inception-adm, from its authors",
            ],
        ),
        (
            "lsun-church256",
            [
                "photographs: http://dl.yf.io/lsun/scenes/church_outdoor_train_lmdb.zip",
                "weights: open_clip:ViT-B-16/openai, from its authors",
                "weights: inception-adm, from its authors",
            ],
        ),
    ],
)
def test_what_is_fetched_is_named(name: str, expected: list[str]):
    assert fetched(load_params(REPO / f"presets/{name}.yaml")) == expected


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nope"], "presets: no preset nope, expected "),
        (["smoke", "--rate", "0"], "--rate: found 0, expected TFLOP/s above 0"),
        (["smoke", "--transfer", "0"], "--transfer: found 0, expected MB/s above 0"),
        (["smoke", "--extraction", "-1"], "--extraction: found -1, expected photographs/s"),
        (["smoke", "--rate", "nan"], "--rate: found nan, expected TFLOP/s above 0"),
    ],
)
def test_command_refuses(argv: list[str], message: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(REPO)
    with pytest.raises(SystemExit, match=f"^error: {message}"):
        main(["plan", *argv])


@pytest.mark.parametrize("name", PAPER)
def test_hours_of_data_are_counts_over_rates(name: str):
    data = load_params(REPO / f"presets/{name}.yaml").data
    table = data_cost(name, data, 7200, 5e9, workers=8, megabytes=10.0, photographs_a_second=0.5)
    values = table.set_index("quantity")["value"]
    assert values["downloading them"] == pytest.approx(
        values["photographs to download"] * 100 / 3600
    )
    assert values["extraction, 8 workers"] == pytest.approx(4 / 8)
    assert values["disk, with DVC's cache"] == 5


def test_bytes_of_local_photographs_are_counted(tmp_path: Path):
    data = load_params(REPO / "presets/demo.yaml").data
    (tmp_path / "a").write_bytes(bytes(3_000_000))
    for location in (tmp_path, tmp_path / "a"):
        local = data.model_copy(update={"location": str(location)})
        table = data_cost("demo", local, 2, 0, workers=2, megabytes=1.0, photographs_a_second=1.0)
        assert table["value"][0] == 3e-3
    gone = data.model_copy(update={"location": "s3://bucket/x"})
    table = data_cost("demo", gone, 2, 0, workers=2, megabytes=1.0, photographs_a_second=1.0)
    assert table["quantity"].tolist() == ["extraction, 2 workers", "disk, with DVC's cache"]
