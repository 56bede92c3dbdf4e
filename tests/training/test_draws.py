"""Draws: functions of (seed, step) alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from patchdm.training.draws import draw_rows, generator, seed_dropout


@pytest.mark.parametrize(("count", "batch"), [(10, 5), (10, 4), (7, 16)])
def test_every_epoch_visits_every_image_once(count: int, batch: int) -> None:
    parts = [range(batch * step, batch * (step + 1)) for step in range(14)]
    drawn = np.concatenate([draw_rows(count, items, 3) for items in parts])
    epochs = [drawn[i * count : (i + 1) * count] for i in range(len(drawn) // count)]
    assert len(epochs) >= 4
    for epoch in epochs:
        assert sorted(epoch) == list(range(count))
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)


def test_rows_depend_on_seed_and_item_alone() -> None:
    """However the items are cut into batches, and in whatever order these are asked for."""
    whole = draw_rows(9, range(48), 0).tolist()
    backwards = [draw_rows(9, range(4 * n, 4 * n + 4), 0).tolist() for n in reversed(range(12))]
    assert [row for rows in reversed(backwards) for row in rows] == whole
    assert whole != draw_rows(9, range(48), 1).tolist()


def test_generators_differ_between_items_and_seeds() -> None:
    places = [(0, 0), (0, 1), (1, 0), (0, 0, 2)]
    first = [torch.rand(1, generator=generator(*place)).item() for place in places]
    again = [torch.rand(1, generator=generator(*place)).item() for place in places]
    assert first == again
    assert len(set(first)) == 4


def test_dropout_is_drawn_apart() -> None:
    """Or else its masks would repeat the noise of the item."""
    seed_dropout(0, 5)
    masks = torch.rand(4)
    seed_dropout(0, 5)
    assert torch.equal(masks, torch.rand(4))
    assert not torch.equal(masks, torch.rand(4, generator=generator(0, 5)))
