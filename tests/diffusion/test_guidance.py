"""Classifier-free guidance: (1 + w) eps(cond, position) - w eps(none, none)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from patchdm.diffusion.guidance import guided


@pytest.mark.parametrize(("w", "expected"), [(0.5, 1.5 * 7 - 0.5 * 2), (-1.0, 2.0)])
def test_guidance(w: float, expected: float):
    cond = torch.ones(1, 4)

    def predict(code: Tensor | None, known_place: bool) -> Tensor:
        assert known_place == (code is cond)  # both are dropped together
        return torch.tensor(7.0 if known_place else 2.0)

    assert guided(predict, cond, w) == expected


@pytest.mark.parametrize("w", [None, 0.0])
def test_no_guidance_costs_no_second_prediction(w: float | None):
    calls = []

    def predict(code: Tensor | None, known_place: bool) -> Tensor:
        calls.append((code, known_place))
        return torch.tensor(7.0)

    assert guided(predict, None, w) == 7
    assert calls == [(None, True)]
