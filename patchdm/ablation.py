"""The ablation: variants of a run, the paper's and others, and ways to sample from its networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from patchdm.config import Params
from patchdm.errors import PatchDMError

Changes = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Name -> section -> key -> value other than the run's; all else, budgets too, stays."""

VARIANTS: Changes = {
    "full": {},
    "no-position": {"model": {"position": False}},
    "pixel-fixed": {"model": {"collage": "pixel-fixed"}},
    "pixel-random": {"model": {"collage": "pixel-random"}},
    "no-collage": {"model": {"collage": "none"}},
    "no-code": {"model": {"code": "none"}, "sample": {"code": "latent"}},
    "eps-prediction": {"diffusion": {"prediction_type": "epsilon"}},
    "v-prediction": {"diffusion": {"prediction_type": "v_prediction"}},
}
"""What is trained in another way; the first six are the paper's. `eps-prediction` or `v-prediction`
is `full` once more where the run predicts so."""

_GUIDANCE = {"guidance_scale": 0.5}  # the paper's
SAMPLINGS: Changes = {
    "shifted": {"sample": {"tiling": "shifted"}},
    "training-codes": {"sample": {"code": "training"}},
    "guided": {"sample": {**_GUIDANCE, "guidance_interval": [0, 1000]}},
    "guided-interval": {"sample": {**_GUIDANCE, "guidance_interval": [250, 750]}},
}
"""What is sampled in another way, from the networks of `full`."""

CHANGES: Changes = {**VARIANTS, **SAMPLINGS}


def variant_params(params: Params, variant: str, seed: int) -> Params:
    """Return the params of one cell of the ablation, a variant or sampling at a training seed.

    Training draws from that seed; samples keep the run's, so that they compare image by image.
    A cell has no ablation of its own: it does not depend on which other cells there are.

    Raises:
        PatchDMError: there is no such variant.
    """
    if variant not in CHANGES:
        raise PatchDMError(f"variant {variant}: unknown, expected {', '.join(CHANGES)}")
    values = params.model_dump()
    values["base"]["seed"] = seed
    values["ablation"] = {"variants": [], "samplings": [], "seeds": []}
    for section, changed in CHANGES[variant].items():
        values[section] |= changed
    return Params.model_validate(values)
