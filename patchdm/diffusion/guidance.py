"""Classifier-free guidance: away from what is predicted without code and position."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def guided(
    predict: Callable[[Tensor | None, bool], Tensor],
    cond: Tensor | None,
    guidance_scale: float | None,
) -> Tensor:
    """Return (1 + w) eps(cond, position) - w eps(none, none) (PAPER section 1, guidance).

    Args:
        predict: (code, whether positions are known) -> eps; called twice where there is guidance.
        cond: (B, cond_dim) global codes, or None.
        guidance_scale: w; None or 0: off.
    """
    eps = predict(cond, True)
    if not guidance_scale:
        return eps
    return (1 + guidance_scale) * eps - guidance_scale * predict(None, False)
