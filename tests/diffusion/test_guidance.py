"""Classifier-free guidance: (1 + w) eps(cond, position) - w eps(none, none)."""

from __future__ import annotations

import pytest
import torch

from patchdm.diffusion.guidance import guided


@pytest.mark.parametrize(("w", "expected"), [(0.5, 1.5 * 7 - 0.5 * 2), (-1.0, 2.0), (0.0, 7.0)])
def test_guidance(w: float, expected: float):
    assert guided(torch.tensor(7.0), torch.tensor(2.0), w) == expected
