"""The paper's ablation: variants of a run, each one switch of the model away from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from patchdm.config import Params
from patchdm.errors import PatchDMError

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "full": {},
    "no-position": {"position": False},
    "pixel-fixed": {"collage": "pixel-fixed"},
    "pixel-random": {"collage": "pixel-random"},
    "no-collage": {"collage": "none"},
    "no-code": {"code": "none"},
}
"""What each variant changes in the section `model`; all else, budgets too, stays the run's."""


def variant_params(params: Params, variant: str, seed: int) -> Params:
    """Return the params of one cell of the ablation, a variant trained at a seed.

    Training draws from that seed; samples keep the run's, so that they compare image by image.
    A cell has no ablation of its own: it does not depend on which other cells there are.

    Raises:
        PatchDMError: there is no such variant.
    """
    if variant not in VARIANTS:
        raise PatchDMError(f"variant {variant}: unknown, expected {', '.join(VARIANTS)}")
    values = params.model_dump()
    values["base"]["seed"] = seed
    values["model"] |= VARIANTS[variant]
    values["ablation"] = {"variants": [], "seeds": []}
    return Params.model_validate(values)
