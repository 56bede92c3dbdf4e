"""What the image model trains on: the draws of a step, the code's way in, the encoder's share."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from patchdm.diffusion.loss import cut_windows, min_snr_weight, training_loss
from patchdm.diffusion.schedules import paper_scheduler
from patchdm.formats.patch_store import PatchStore
from patchdm.formats.tensors import to_float, to_tensor
from patchdm.models import CodeTable, SemanticEncoder
from patchdm.models.build import build_code, build_unet
from patchdm.training.draws import generator
from patchdm.training.image import ImageTraining, window_draw
from tests.networks import awake, small_unet
from tests.stages.tiny import tiny_params, write_tiny_store

P, BATCH, IMAGES = 8, 6, 18
NAMES = ["pixels", "inside", "corner", "offset", "image", "keep_code", "t", "noise"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, landscapes: Path) -> PatchStore:
    folder = tmp_path_factory.mktemp("image") / "data" / "patches"
    write_tiny_store(folder, landscapes)
    return PatchStore(folder)


def draws(
    store: PatchStore, steps: range, *, whole_images: bool = False, seed: int = 0, **train: object
) -> list[dict[str, Tensor]]:
    """Return the batches of some steps."""
    code = "encoder" if whole_images else "table"
    params = tiny_params(
        model={"patch_size": P, "code": code},
        train={"batch_size": BATCH} | train,
    )
    draw = window_draw(params.model, params.train, params.diffusion, store, seed=seed)
    return [draw(range(BATCH * step, BATCH * (step + 1))) for step in steps]


def test_a_draw_goes_to_processes_that_are_not_forked(store):
    params = tiny_params(model={"patch_size": P, "code": "encoder"})
    draw = window_draw(params.model, params.train, params.diffusion, store, seed=3)
    here, there = draw(range(BATCH)), pickle.loads(pickle.dumps(draw))(range(BATCH))
    assert all(torch.equal(there[name], here[name]) for name in NAMES)
    assert torch.equal(there["whole"], here["whole"])


def joined(batches: list[dict[str, Tensor]], name: str) -> Tensor:
    return torch.cat([batch[name] for batch in batches])


def test_a_draw_depends_on_seed_and_items_alone(store):
    forwards = draws(store, range(4))
    backwards = draws(store, range(3, -1, -1))[::-1]
    other = draws(store, range(4), seed=1)
    for name in NAMES:
        assert torch.equal(joined(forwards, name), joined(backwards, name)), name
    for name in ("pixels", "corner", "offset", "image", "t", "noise"):
        assert not torch.equal(joined(forwards, name), joined(other, name)), name
    assert not torch.equal(forwards[0]["noise"], forwards[1]["noise"])


@pytest.mark.parametrize("windows", ["image", "batch"])
def test_an_item_draws_its_numbers_one_after_another(store, windows: str):
    """Faster ways to draw give the same numbers: else a training would not resume to the bit."""
    batches = draws(store, range(3), windows=windows)
    names = ("corner", "t", "offset", "noise")
    corner, t, offset, noise = (joined(batches, name) for name in names)
    ends = torch.tensor([store.height // P, store.width // P, 1000, P + 1, P + 1])
    for item, found in enumerate(torch.cat([corner.long(), t[:, None], offset], dim=1)):
        source = generator(0, item)
        chances = torch.rand(7, generator=source, dtype=torch.float64)
        if windows == "batch":
            shared = generator(0, item // BATCH, 2)
            chances[:2] = torch.rand(2, generator=shared, dtype=torch.float64)
        assert torch.equal(found, (chances[:5] * ends).long())
        assert torch.equal(noise[item], torch.randn(3, 2 * P, 2 * P, generator=source))


def test_windows_are_those_of_their_images(store):
    for batch in draws(store, range(5)):
        images = to_tensor(store.images(batch["image"].numpy()))
        window = cut_windows(images, batch["corner"].long(), batch["offset"], P)
        assert torch.equal(batch["inside"], window.inside)
        assert_close(to_float(batch["pixels"]) * batch["inside"], window.x0 * window.inside)


def test_all_that_can_be_drawn_is_drawn(store):
    batches = draws(store, range(200))
    corner, offset, t, noise = (joined(batches, n) for n in ("corner", "offset", "t", "noise"))
    rows, cols = store.height // P, store.width // P
    assert {tuple(c) for c in corner.tolist()} == {(r, c) for r in range(rows) for c in range(cols)}
    assert set(offset.flatten().tolist()) == set(range(P + 1))
    assert (int(t.min()), int(t.max())) >= (0, 950)
    assert t.float().mean().item() == pytest.approx(499.5, abs=30)
    assert noise.mean().item() == pytest.approx(0, abs=0.01)
    assert noise.std().item() == pytest.approx(1, abs=0.01)
    images = joined(batches, "image").numpy()
    assert set(np.bincount(images, minlength=IMAGES)) == {66, 67}


def test_the_authors_draw_one_window_a_batch(store):
    for batch in draws(store, range(9), windows="batch"):
        assert len(batch["corner"].unique(dim=0)) == 1
    assert any(len(b["corner"].unique(dim=0)) > 1 for b in draws(store, range(9)))


def test_conditions_are_dropped_at_their_rates(store):
    """PAPER, guidance: 0.1 and 0.5, apart from each other."""
    batches = draws(store, range(400), code_dropout=0.1, position_dropout=0.5)
    dropped_code = joined(batches, "keep_code")[:, 0] == 0
    dropped_place = joined(batches, "corner").isnan()
    assert torch.equal(dropped_place[:, 0], dropped_place[:, 1])
    assert dropped_code.float().mean().item() == pytest.approx(0.1, abs=0.02)
    assert dropped_place[:, 0].float().mean().item() == pytest.approx(0.5, abs=0.03)
    both = (dropped_code & dropped_place[:, 0]).float().mean().item()
    assert both == pytest.approx(0.05, abs=0.015)


def test_nothing_is_dropped_unasked(store):
    batches = draws(store, range(50))
    assert joined(batches, "keep_code").all()
    assert not joined(batches, "corner").isnan().any()


def test_the_encoder_gets_whole_images(store):
    (batch,) = draws(store, range(1), whole_images=True)
    (table,) = draws(store, range(1))
    assert torch.equal(batch["whole"], torch.from_numpy(store.images(table["image"].numpy())))
    assert table["whole"] is None


class Sum(nn.Module):
    """A code that any test can compute: of a table's rows, or of images."""

    def forward(self, x: Tensor) -> Tensor:
        return x.float().flatten(1).sum(dim=1, keepdim=True).expand(-1, 6) / 100


def test_the_loss_is_that_of_the_images(store):
    """Seen from outside: draw, then compare with the contract's training_loss."""
    unet = small_unet()
    (batch,) = draws(store, range(1), whole_images=True)
    losses = ImageTraining(unet, Sum(), paper_scheduler())(**batch)
    whole = to_float(batch["whole"])
    canvas = torch.zeros(BATCH, 3, store.height + P, store.width + P)
    for plane, noise, corner in zip(canvas, batch["noise"], batch["corner"], strict=True):
        y, x = (corner * P).long().tolist()
        plane[:, y : y + 2 * P, x : x + 2 * P] = noise
    expected = training_loss(
        unet,
        whole,
        batch["t"],
        Sum()(whole),
        noise=canvas,
        window=batch["corner"].long(),
    )
    assert_close(losses["loss"].mean(), expected)
    assert_close(losses["loss"], losses["loss_shifted"] + losses["loss_plain"])


def test_the_error_is_split_by_quarters_of_time(store):
    batch = draws(store, range(1))[0] | {"t": torch.tensor([0, 249, 250, 600, 999, 500])}
    losses = ImageTraining(small_unet(), None, paper_scheduler(), min_snr_gamma=2.0)(**batch)
    quarters = torch.stack([losses[f"loss_q{n}"] for n in (1, 2, 3, 4)])
    expected = torch.tensor([0, 0, 1, 2, 3, 2])
    for item, quarter in enumerate(expected.tolist()):
        error = losses["loss_shifted"][item] + losses["loss_plain"][item]
        assert_close(quarters[quarter, item], error)
        assert quarters[:, item].isnan().sum() == 3


def test_min_snr_weighs_the_total_alone(store):
    """With a batch of one step, the weight factors out; the summands stay the errors."""
    unet = small_unet()
    (batch,) = draws(store, range(1), whole_images=True)
    batch["t"].fill_(100)
    plain = ImageTraining(unet, Sum(), paper_scheduler())(**batch)
    weighed = ImageTraining(unet, Sum(), paper_scheduler(), min_snr_gamma=2.0)(**batch)
    weight = min_snr_weight(paper_scheduler(), torch.tensor([100]), 2.0)[0]
    assert weight < 0.5
    assert_close(weighed["loss"], plain["loss"] * weight)
    assert_close(weighed["loss_plain"], plain["loss_plain"])


def test_a_dropped_code_is_none(store):
    """Multiplied by zero before its MLP: the loss is that of a network without a code."""
    unet = small_unet()
    (batch,) = draws(store, range(1), whole_images=True)
    kept = ImageTraining(unet, Sum(), paper_scheduler())(**batch)["loss"]
    batch["keep_code"].zero_()
    dropped = ImageTraining(unet, Sum(), paper_scheduler())(**batch)["loss"]
    without = ImageTraining(unet, None, paper_scheduler())(**batch)["loss"]
    assert_close(dropped, without)
    assert (dropped - kept).abs().max() > 1e-4


@pytest.mark.parametrize("mode", ["feature", "none", "pixel-fixed", "pixel-random"])
@pytest.mark.parametrize("code", ["table", "encoder", "none"])
@pytest.mark.parametrize("position", [True, False])
def test_every_switch_trains_every_weight(store, mode: str, code: str, position: bool):
    """The joint encoder as well: whole image in, window out, gradients back into its stem."""
    switches = {"collage": mode, "code": code, "position": position}
    model = tiny_params(model=switches).model
    module = ImageTraining(build_unet(model), build_code(model, IMAGES), paper_scheduler())
    awake(module)
    (batch,) = draws(store, range(1), whole_images=code == "encoder")
    losses = module(**batch)
    losses["loss"].mean().backward()
    summands = [loss for name, loss in losses.items() if not re.fullmatch(r"loss(_q\d)?", name)]
    assert_close(losses["loss"], torch.stack(summands).sum(dim=0))

    idle = {name for name, weight in module.named_parameters() if not weight.grad.any()}
    expected = set()
    if not position:
        expected.add("unet.position_embed.0.weight")  # its input is zero, its biases remain
    if code == "none":
        expected.add("unet.cond_embed.0.weight")
    assert idle == expected
    if code == "table":
        drawn = batch["image"].unique()
        touched = module.code.codes.grad.abs().sum(dim=1).nonzero().flatten()
        assert torch.equal(touched, drawn)


@pytest.mark.parametrize("kind", [CodeTable, SemanticEncoder])
def test_the_code_learns_with_the_network(store, kind: type):
    """A few steps of plain descent on one batch lower its loss through the code alone."""
    code = "table" if kind is CodeTable else "encoder"
    model = tiny_params(model={"code": code}).model
    module = ImageTraining(build_unet(model), build_code(model, IMAGES), paper_scheduler())
    awake(module)
    assert isinstance(module.code, kind)
    (batch,) = draws(store, range(1), whole_images=code == "encoder")
    optimizer = torch.optim.Adam(module.code.parameters(), lr=1e-2)
    losses = []
    for _ in range(5):
        loss = module(**batch)["loss"].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 1e-3
