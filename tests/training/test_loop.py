"""The training loop: a training that was cut off ends in the bits of one that was not."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from patchdm.devices import precision
from patchdm.diffusion.schedules import latent_scheduler
from patchdm.errors import PatchDMError
from patchdm.models import LatentMLP
from patchdm.training.batches import Batch
from patchdm.training.ema import Ema
from patchdm.training.latent import LatentTraining
from patchdm.training.loop import place_schedules
from tests.conftest import REPO
from tests.training.toy import Toy, Training, toy_draw, toy_plan


def assert_same_bits(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@pytest.fixture
def whole(tmp_path: Path) -> tuple[Training, dict[str, Tensor]]:
    """A training without disturbance."""
    training = Training(tmp_path / "whole")
    return training, training.run()


@pytest.mark.parametrize(("asked", "after"), [(1, 2), (7, 8), (10, 10), (19, 20), (20, 20)])
def test_a_stopped_training_goes_on_bit_by_bit(
    tmp_path: Path, whole, asked: int, after: int
) -> None:
    """A step later, but for steps that are waited for anyway."""
    undisturbed, weights = whole
    first = Training(tmp_path, stop_after=asked)
    with pytest.raises(PatchDMError, match=rf"stopped after {4 * after} of 79; run again"):
        first.run()
    second = Training(tmp_path)
    assert_same_bits(second.run(), weights)
    assert second.reported == undisturbed.reported
    assert first.progress + second.progress == undisturbed.progress


def test_what_was_trained_is_saved_before_an_action(tmp_path: Path, whole) -> None:
    """A sheet of samples may need more memory than there is."""

    def fail(_seen: int, _average: object) -> None:
        raise MemoryError

    _, weights = whole
    with pytest.raises(MemoryError):
        Training(tmp_path, every=[(12, fail)]).run()
    acts: list[int] = []
    second = Training(tmp_path, every=[(12, lambda seen, _: acts.append(seen))])
    assert_same_bits(second.run(), weights)
    assert second.progress[0] == 16
    assert acts == [12, 24, 36, 48, 60, 72, 80]


def test_a_noise_schedule_moves_before_a_module_is_compiled() -> None:
    module = LatentTraining(LatentMLP(4, 2, 8), latent_scheduler())
    place_schedules(module, torch.device("meta"))
    assert module.scheduler.alphas_cumprod.device.type == "meta"


@pytest.mark.parametrize("at", [0, 4, 5, 13, 19])
def test_a_crashed_training_goes_on_bit_by_bit(tmp_path: Path, whole, at: int) -> None:
    """It goes back to the last checkpoint: of 20 steps every fifth, and the last."""

    def crashing_draw(items: range) -> Batch:
        if items.start == 4 * at:
            raise MemoryError
        return toy_draw(items)

    undisturbed, weights = whole
    with pytest.raises(MemoryError):
        Training(tmp_path, draw=crashing_draw).run()
    second = Training(tmp_path)
    assert_same_bits(second.run(), weights)
    assert second.reported == undisturbed.reported
    assert second.progress == [4 * step for step in range(at // 5 * 5 + 1, 21)]


def test_a_finished_training_repeats_its_history_alone(tmp_path: Path) -> None:
    first = Training(tmp_path)
    weights = first.run()
    second = Training(tmp_path)
    assert_same_bits(second.run(), weights)
    assert second.reported == first.reported
    assert second.progress == []


def test_what_happens_when(tmp_path: Path) -> None:
    acts: list[int] = []
    training = Training(tmp_path, every=[(32, lambda seen, _: acts.append(seen))])
    training.run()
    assert [seen for seen, _ in training.reported] == [12, 24, 36, 48, 60, 72, 80]
    assert acts == [32, 64, 80]
    assert training.progress == list(range(4, 84, 4))


def test_reports_hold_the_means_since_the_last_report(tmp_path: Path) -> None:
    every_step = Training(tmp_path / "fine", plan=toy_plan(log_every=4))
    every_step.run()
    training = Training(tmp_path / "coarse")
    training.run()
    losses = [metrics["loss"] for _, metrics in every_step.reported]
    for seen, metrics in training.reported[:-1]:
        steps = slice(seen // 4 - 3, seen // 4)
        assert metrics["loss"] == pytest.approx(sum(losses[steps]) / 3)
        assert metrics.keys() == {"loss", "grad_norm", "learning_rate"}
    assert training.reported[-1][1]["loss"] == pytest.approx(sum(losses[18:]) / 2)


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    plan = toy_plan(items_seen=2000, log_every=400, lr_decay="none", warmup_items=0)
    training = Training(tmp_path, plan=plan)
    training.run()
    losses = [metrics["loss"] for _, metrics in training.reported]
    assert losses[-1] < 0.6 * losses[0]


def test_what_is_acted_upon_is_the_average(tmp_path: Path) -> None:
    seen: list[Tensor] = []

    def keep(_: int, average: torch.nn.Module) -> None:
        assert not average.training
        seen.append(average.layers[0].weight.cpu().clone())

    training = Training(tmp_path, every=[(4, keep)])
    weights = training.run()
    assert torch.equal(seen[-1], weights["layers.0.weight"])
    assert not torch.equal(seen[-1], weights["raw.layers.0.weight"].cpu())


def test_learning_rate_warms_up_and_falls() -> None:
    plan = toy_plan(items_seen=80)
    factors = [plan.lr_factor(step) for step in range(plan.steps)]
    cosine = [0.5 * (1 + math.cos(math.pi * (step + 1) / 20)) for step in range(20)]
    warmup = [min(1.0, (step + 1) / 5) for step in range(20)]
    assert factors == pytest.approx([a * b for a, b in zip(warmup, cosine, strict=True)])
    assert factors[-1] == 0
    constant = toy_plan(warmup_items=0, lr_decay="none")
    assert {constant.lr_factor(step) for step in range(20)} == {1.0}


def test_the_optimiser_gets_that_learning_rate(tmp_path: Path) -> None:
    plan = toy_plan(log_every=4)
    training = Training(tmp_path, plan=plan)
    training.run()
    rates = [metrics["learning_rate"] for _, metrics in training.reported]
    assert rates == pytest.approx([1e-2 * plan.lr_factor(step) for step in range(20)])
    frozen = Training(
        tmp_path / "frozen", plan=toy_plan(items_seen=4)
    )  # cosine: one step of rate 0
    weights = frozen.run()
    assert torch.equal(weights["raw.layers.0.weight"].cpu(), Toy().layers[0].weight)


def test_average_forgets_the_start_only_with_warmup() -> None:
    plan = toy_plan(ema_decay=0.999)
    assert [plan.ema_decay_at(step) for step in (0, 1, 10)] == pytest.approx([0.1, 2 / 11, 0.55])
    assert plan.ema_decay_at(10**6) == 0.999
    assert toy_plan(ema_decay=0.999, ema_profile="constant").ema_decay_at(0) == 0.999


@pytest.mark.parametrize("std", [0.05, 0.1, 0.25])
def test_the_power_profile_is_a_share_of_the_training(std: float) -> None:
    """2312.02696: the weight of each step in the average, read off its recursion."""
    plan = toy_plan(ema_profile="power", ema_decay=0.5, ema_std=std)
    for length in (400, 1600):
        weights = torch.zeros(length, dtype=torch.float64)
        for step in range(length):
            decay = plan.ema_decay_at(step)
            weights *= decay
            weights[step] = 1 - decay
        places = (torch.arange(length) + 0.5) / length
        mean = (weights * places).sum()
        assert weights.sum().item() == pytest.approx(1)
        found = (weights * (places - mean).square()).sum().sqrt().item()
        assert found == pytest.approx(std, rel=0.02)


def test_average_is_the_recursion() -> None:
    module, expected = Toy(), Toy().layers[0].weight.detach()
    ema, average = Ema(module.parameters()), Toy()
    for step in range(3):
        with torch.no_grad():
            for weight in module.parameters():
                weight.add_(1 + step)
        ema.update(module.parameters(), 0.75)
        expected = 0.75 * expected + 0.25 * module.layers[0].weight.detach()
    torch.testing.assert_close(ema.copy_to(average).layers[0].weight, expected)


def test_micro_batches_add_up_to_the_batch(tmp_path: Path) -> None:
    """Up to the order of sums; without dropout, whose draws go by micro-batches."""
    weights = []
    for size in (4, 2, 1):
        module = Toy()
        module.layers[2].p = 0.0
        training = Training(
            tmp_path / str(size), plan=toy_plan(micro_batch_size=size), module=module
        )
        weights.append(training.run())
        assert training.progress == list(range(4, 84, 4))
    for found in weights[1:]:
        for name, value in weights[0].items():
            assert_close(found[name], value, atol=1e-5, rtol=0)


def test_micro_batches_resume_bit_by_bit(tmp_path: Path) -> None:
    plan = toy_plan(micro_batch_size=2)
    weights = Training(tmp_path / "whole", plan=plan).run()
    with pytest.raises(PatchDMError, match="stopped"):
        Training(tmp_path, plan=plan, stop_after=7).run()
    assert_same_bits(Training(tmp_path, plan=plan).run(), weights)


def test_workers_draw_the_same(tmp_path: Path) -> None:
    weights = Training(tmp_path / "none").run()
    with pytest.raises(PatchDMError, match="stopped"):
        Training(tmp_path, workers=2, stop_after=9).run()
    assert_same_bits(Training(tmp_path, workers=2).run(), weights)


DEADLY = """
import os, signal, sys
from pathlib import Path
from patchdm.errors import PatchDMError
from tests.conftest import REPO
from tests.training.toy import Training, toy_draw

def deadly(items):
    if items.start == 20:
        os.kill(os.getpid(), signal.SIGKILL)
    return toy_draw(items)

try:
    Training(Path(sys.argv[1]), draw=deadly, workers=1).run()
except PatchDMError as error:
    sys.exit(f"error: {error}")
"""
"""In a process of its own, since torch tells of a dead worker by a signal at any moment."""


def test_a_worker_that_dies_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DEADLY, str(tmp_path)],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "error: machine.loaders is 1: a worker died, or shared memory (/dev/shm) is full; "
        "expected fewer, 0 needs none"
    )


def test_items_without_a_value_are_left_out_of_its_mean(tmp_path: Path) -> None:
    class Halved(Toy):
        def forward(self, x: Tensor, **place: Tensor) -> dict[str, Tensor]:
            loss = super().forward(x, **place)["loss"]
            nothing = loss.new_full(loss.shape, torch.nan)
            return {
                "loss": loss,
                "even": loss.where(place["image"] % 2 == 0, torch.nan),
                "none": nothing,
            }

    training = Training(tmp_path, plan=toy_plan(log_every=4), module=Halved())
    training.run()
    for _, metrics in training.reported:
        assert metrics["even"] > 0
        assert "none" not in metrics


@pytest.mark.parametrize(
    ("able", "expected"),
    [({}, "no"), ({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16")],
    ids=str,
)
@pytest.mark.parametrize("onednn", [True, False])
def test_auto_is_bf16_where_the_cpu_computes_in_it(
    monkeypatch: pytest.MonkeyPatch, able: dict[str, bool], expected: str, onednn: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: onednn)
    assert precision("auto") == (expected if onednn else "no")
    assert precision("fp16") == "fp16"
