"""Steps that are not finite: found when the next has begun, named, and nothing is made of them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from patchdm.errors import PatchDMError
from patchdm.training import loop
from patchdm.training.batches import Batch
from patchdm.training.loop import make_accelerator
from tests.training.toy import Toy, Training, toy_draw, toy_plan


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_step_and_item(tmp_path: Path, value: float) -> None:
    def draw(items: range) -> Batch:
        batch = toy_draw(items)
        if 30 in items:
            batch["x"][items.index(30)] = value
        return batch

    with pytest.raises(PatchDMError) as error:
        Training(tmp_path, draw=draw).run()
    assert re.fullmatch(
        r"step 7: loss is (nan|inf), expected finite numbers: a lower learning rate may help; "
        r"found at t = 130 of image 30",
        str(error.value),
    )
    assert [path.name[:10] for path in tmp_path.glob("*.pt")] == ["0000000005"]


@pytest.mark.parametrize("step", range(20))
def test_nothing_is_made_of_a_step_that_is_not_finite(tmp_path: Path, step: int) -> None:
    """Though the next step may begin before it is known."""

    def draw(items: range) -> Batch:
        batch = toy_draw(items)
        return batch | {"x": batch["x"] + (math.nan if items.start == 4 * step else 0)}

    acts: list[int] = []
    every = [(28, lambda _, average: acts.append(average.layers[0].weight.isfinite().all()))]
    training = Training(tmp_path, draw=draw, every=every)
    with pytest.raises(PatchDMError, match=rf"^step {step}: loss is nan"):
        training.run()
    assert [seen for seen, _ in training.reported] == list(range(12, 4 * step + 1, 12))
    assert all(math.isfinite(metrics["loss"]) for _, metrics in training.reported)
    saved = sorted(int(path.name[:10]) for path in tmp_path.glob("*.pt"))
    assert saved == [at for at in (5, 7, 10, 14, 15) if at <= step][-2:]
    assert acts == [True] * (step // 7)


def test_a_step_is_judged_when_the_next_has_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a GPU need not wait for this process. The last step, and one to report, are not."""
    order: list[str] = []

    def draw(items: range) -> Batch:
        order.append(f"begin {items.start // 4}")
        return toy_draw(items)

    def arriving(flags: Tensor) -> Callable[[], list[bool]]:
        step = sum(entry.startswith("begin") for entry in order) - 1
        return lambda: (order.append(f"judge {step}"), flags.tolist())[1]

    monkeypatch.setattr(loop, "arriving", arriving)
    Training(tmp_path, toy_plan(items_seen=16, log_every=12), draw).run()
    begin, judge = (lambda step: f"begin {step}"), (lambda step: f"judge {step}")
    expected = [begin(0), begin(1), judge(0), begin(2), judge(1), judge(2)]
    assert [*dict.fromkeys(order)] == [*expected, begin(3), judge(3)]


def test_steps_that_the_scaler_skips_leave_no_mark(tmp_path: Path) -> None:
    """Under fp16, gradients overflow until the scale fits; their infinite norm is no norm."""
    accelerator = make_accelerator(toy_plan(), "no")
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20, growth_interval=10**6)
    accelerator.native_amp = True
    accelerator.state._mixed_precision = "fp16"
    training = Training(tmp_path, toy_plan(log_every=4), accelerator=accelerator)
    weights = training.run()
    norms = [metrics.get("grad_norm") for _, metrics in training.reported]
    skipped = norms.index(next(norm for norm in norms if norm))
    assert 0 < skipped < 19
    assert norms[:skipped] == [None] * skipped
    found = [value for _, metrics in training.reported for value in metrics.values()]
    assert all(math.isfinite(value) for value in found)
    assert all(value.isfinite().all() for value in weights.values())


def test_a_gradient_that_is_not_finite_never_reaches_a_checkpoint(tmp_path: Path) -> None:
    """Or else the weights of the checkpoint at step 5 were NaN, and every later run stuck."""

    class Steep(Toy):
        def forward(self, x: Tensor, **place: Tensor) -> dict[str, Tensor]:
            loss = super().forward(x, **place)["loss"]
            # At 0 the root is 0, its slope infinite.
            return {"loss": loss + (self.layers[0].bias * x[0, 0]).abs().sum().sqrt()}

    def draw(items: range) -> Batch:
        batch = toy_draw(items)
        batch["x"][0, 0] *= items.start != 16
        return batch

    with pytest.raises(PatchDMError, match=r"^step 4: norm of the gradients is (nan|inf)"):
        Training(tmp_path, draw=draw, module=Steep()).run()
    assert not list(tmp_path.glob("*.pt"))
