"""What the studio is asked for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from patchdm.choices import Solver, Tiling

MOST_IMAGES, MOST_STEPS, MOST_PIXELS = 256, 1000, 2**24
Seed = Annotated[int, Field(ge=0, lt=2**53)]  # numbers that a page can write
Seeds = Annotated[list[Seed], Field(min_length=1, max_length=MOST_IMAGES)]
Side = Annotated[int, Field(ge=1, le=MOST_PIXELS)]
Steps = Annotated[int, Field(ge=1, le=MOST_STEPS)]
Guidance = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Margin = Annotated[int, Field(ge=0, le=2**14)]


class Request(BaseModel):
    """Nothing but the fields that are known; what is None is as the model says."""

    model_config = ConfigDict(extra="forbid")


class Solving(Request):
    """How to sample."""

    solver: Solver | None = None
    steps: Steps | None = None
    guidance: Guidance | None = None
    tiling: Tiling | None = None


class Sample(Solving):
    """Images of seeds, as `patchdm sample` makes them."""

    kind: Literal["sample"]
    seeds: Seeds
    width: Side
    height: Side
    code_seed: Seed | None = None


class Interpolate(Solving):
    """Images of the training size, whose codes go from that of one seed to another's."""

    kind: Literal["interpolate"]
    seeds: Annotated[list[Seed], Field(min_length=2, max_length=2)]
    count: Annotated[int, Field(ge=2, le=64)] = 7


class Restoring(Request):
    """Versions of an image that was given."""

    image: str
    seeds: Seeds
    steps: Steps | None = None
    guidance: Guidance | None = None
    native: bool = False


class Inpaint(Restoring):
    """The white part of a mask, made anew."""

    kind: Literal["inpaint"]
    mask: str


class Outpaint(Restoring):
    """What lies beyond the borders."""

    kind: Literal["outpaint"]
    left: Margin = 0
    top: Margin = 0
    right: Margin = 0
    bottom: Margin = 0


Asked = Annotated[Sample | Interpolate | Inpaint | Outpaint, Field(discriminator="kind")]
