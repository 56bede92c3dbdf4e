"""Classifier-free guidance: away from the prediction without code and position."""

from __future__ import annotations

from torch import Tensor


def guided(eps: Tensor, eps_unknown: Tensor, guidance_scale: float) -> Tensor:
    """Return (1 + w) eps(cond, position) - w eps(none, none) (PAPER section 1, guidance).

    Args:
        eps: prediction with code and position.
        eps_unknown: prediction without both, of the same shape.
        guidance_scale: w.
    """
    return (1 + guidance_scale) * eps - guidance_scale * eps_unknown
