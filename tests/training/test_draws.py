"""Draws: functions of (seed, step) alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from patchdm.training.draws import draw_rows, seed_dropout, step_generator


@pytest.mark.parametrize(("count", "batch"), [(10, 5), (10, 4), (7, 16)])
def test_every_epoch_visits_every_image_once(count: int, batch: int) -> None:
    drawn = np.concatenate([draw_rows(count, batch, 3, step) for step in range(14)])
    epochs = [drawn[i * count : (i + 1) * count] for i in range(len(drawn) // count)]
    assert len(epochs) >= 4
    for epoch in epochs:
        assert sorted(epoch) == list(range(count))
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)


def test_rows_depend_on_seed_and_step_alone() -> None:
    forwards = [draw_rows(9, 4, 0, step).tolist() for step in range(12)]
    backwards = [draw_rows(9, 4, 0, step).tolist() for step in reversed(range(12))]
    assert forwards == backwards[::-1]
    assert forwards != [draw_rows(9, 4, 1, step).tolist() for step in range(12)]


def test_generators_differ_between_steps_and_seeds() -> None:
    first = [torch.rand(1, generator=step_generator(*at)).item() for at in [(0, 0), (0, 1), (1, 0)]]
    again = [torch.rand(1, generator=step_generator(*at)).item() for at in [(0, 0), (0, 1), (1, 0)]]
    assert first == again
    assert len(set(first)) == 3


def test_dropout_is_drawn_apart() -> None:
    """Or else its masks would repeat the noise of the step."""
    seed_dropout(0, 5)
    masks = torch.rand(4)
    seed_dropout(0, 5)
    assert torch.equal(masks, torch.rand(4))
    assert not torch.equal(masks, torch.rand(4, generator=step_generator(0, 5)))
