"""What commands take where their options say nothing: what the model's run or its folder says."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError

from patchdm.choices import Code, Precision, SampleCode, Solver, Tiling
from patchdm.cli.models import run_of
from patchdm.config import Params, validation_line
from patchdm.config.section import NotNegative, Positive, Rate, Section
from patchdm.pipeline import PatchDMPipeline
from patchdm.sampling.seeds import sampling_options
from patchdm.saved import INDEX

log = logging.getLogger(__name__)

PAPER_STEPS = {"num_inference_steps": 50}
"""What is taken where neither the command nor a run nor the model says how many."""


class Call(Section):
    """Arguments of a pipeline's call."""

    num_inference_steps: Positive
    guidance_scale: Annotated[float, Field(ge=0)]
    guidance_interval: Annotated[list[NotNegative], Field(min_length=2, max_length=2)]
    code: SampleCode = "latent"
    """Older models do not say."""
    tiling: Tiling
    latent_num_inference_steps: Positive


class Restoration(Section):
    """Arguments of its `inpaint`, over those of a call."""

    num_inference_steps: Positive
    tiling: Tiling
    resamplings: Positive
    blend_width: NotNegative
    code: Code


class Fit(Section):
    """Arguments of `CodeFit`, all but the features."""

    num_steps: Positive
    windows: Positive
    learning_rate: Rate


class Defaults(Section):
    """`defaults` of a pipeline's model_index.json."""

    solver: Solver
    mixed_precision: Precision
    sample: Call
    inpaint: Restoration
    fit: Fit

    @classmethod
    def of(cls, run: Params) -> Self:
        """Return those that a run's params.yaml says."""
        call, code = sampling_options(run), run.applications
        return cls.model_validate(
            {
                "solver": run.sample.solver,
                "mixed_precision": run.sample.mixed_precision,
                "sample": {name: call[name] for name in Call.model_fields}
                | {"guidance_interval": run.sample.guidance_interval},
                "inpaint": code.model_dump(include=set(Restoration.model_fields))
                | {"num_inference_steps": code.num_steps},
                "fit": {
                    "num_steps": code.code_steps,
                    "windows": code.code_windows,
                    "learning_rate": code.code_learning_rate,
                },
            }
        )


@dataclass(frozen=True)
class Settings:
    """What a command takes where its options say nothing.

    Attributes:
        sample, inpaint: arguments of the pipeline's call and of its `inpaint`.
        solver, mixed_precision: as in params.yaml; None: as the model was saved.
        fit: arguments of `CodeFit`; None: no code can be fitted.
        weights: those of its backbone; None: those of the backbone's package.
    """

    sample: dict[str, Any]
    inpaint: dict[str, Any]
    solver: str | None = None
    mixed_precision: str | None = None
    fit: Mapping[str, Any] | None = None
    weights: Path | None = None


def settings(model: Path, pipe: PatchDMPipeline) -> Settings:
    """Return what the run of a model says, or else its folder, or else the paper.

    Beyond the training size positions are reflected: networks that were always told where a patch
    is make hard edges at places that they do not know (docs/results.md).
    """
    places = {"positions": "reflect"} if pipe.unet.config.sample_size else {}
    if run := run_of(model, pipe):
        weights = Path(run.features.weights) if run.features.weights else None
        rows = run.machine.rows_per_chunk
        return _settings(Defaults.of(run), weights, rows_per_chunk=rows, **places)
    if pipe.config.defaults is not None:
        try:
            return _settings(Defaults.model_validate(pipe.config.defaults), None, **places)
        except ValidationError as error:
            line = validation_line(error)
            log.warning("warning: %s: passed over the defaults of %s: %s", model, INDEX, line)
    code = "latent" if pipe.encoder is None else "image"
    return Settings(PAPER_STEPS | places, PAPER_STEPS | places | {"code": code})


def _settings(found: Defaults, weights: Path | None, **more: Any) -> Settings:
    sample = found.sample.model_dump() | more
    inpaint = sample | found.inpaint.model_dump()
    fit = found.fit.model_dump()
    return Settings(sample, inpaint, found.solver, found.mixed_precision, fit, weights)
