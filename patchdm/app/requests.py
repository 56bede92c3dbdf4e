"""What the studio is asked for."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from patchdm.choices import Code, Solver, Tiling, Wrap

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

    @property
    def total(self) -> int:
        """Return the number of images."""
        return len(self.seeds)


class Interpolate(Solving):
    """Images of the training size, whose codes go from that of one seed to another's."""

    kind: Literal["interpolate"]
    seeds: Annotated[list[Seed], Field(min_length=2, max_length=2)]
    count: Annotated[int, Field(ge=2, le=64)] = 7

    @property
    def total(self) -> int:
        """Return the number of images."""
        return self.count


class Vary(Solving):
    """Images of the training size with the noise of one seed, and codes near to its own.

    The noise of its code is mixed with that of other seeds on a circle, so that it stays Gaussian:
    cos(a) z + sin(a) z_n with a = strength * pi / 2. Strength 0 is the seed's own code, 1 that of
    the other seed.
    """

    kind: Literal["vary"]
    seed: Seed
    towards: Annotated[list[Seed], Field(min_length=1, max_length=64)]
    """One image each."""
    strength: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.3

    @property
    def total(self) -> int:
        """Return the number of images."""
        return len(self.towards)


class Panorama(Solving):
    """One image of any size, over whose width the codes of seeds follow each other."""

    kind: Literal["panorama"]
    first: Seed
    codes: Annotated[int, Field(ge=2, le=64)]
    width: Side
    height: Side
    wrap: Wrap = "none"
    total: ClassVar[int] = 1


class Restoring(Request):
    """Versions of an image that was given."""

    image: str
    seeds: Seeds
    steps: Steps | None = None
    guidance: Guidance | None = None
    code: Code | None = None
    native: bool = False

    @property
    def total(self) -> int:
        """Return the number of images."""
        return len(self.seeds)


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


Asked = Annotated[
    Sample | Interpolate | Vary | Panorama | Inpaint | Outpaint, Field(discriminator="kind")
]
