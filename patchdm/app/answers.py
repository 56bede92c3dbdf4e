"""What the studio answers, as its API describes it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field


class Answer(BaseModel):
    """An answer."""


class Problem(Answer):
    """Why a request is not done, in one line."""

    error: str = Field(examples=["width is 33, expected multiples of the patch size 32"])


class Defaults(Answer):
    """How the model samples where a request says nothing."""

    solver: str
    steps: int
    guidance: float
    tiling: str


class Model(Answer):
    """The model, and what may be asked of it."""

    name: str = Field(examples=["bundled"])
    width: int = Field(description="of a training image, in pixels")
    height: int
    patch_size: int = Field(description="sides of samples are multiples of it")
    device: str = Field(examples=["cpu"])
    solvers: list[str]
    tilings: list[str]
    defaults: Defaults
    guidance: bool = Field(description="whether guidance may be above 0")
    code: bool = Field(description="whether codes are sampled, as exploring needs")
    field: bool = Field(description="whether the code of an image can drift to others")
    photographs: bool = Field(description="whether the photographs of the training are known")
    training: bool = Field(description="whether trainings can be shown, as `pipeline` is installed")
    limit_pixels: int = Field(description="of an image that is made")
    upload_bytes: int = Field(description="of an image that is uploaded")


class Uploaded(Answer):
    """An image that was taken in."""

    id: str
    width: int
    height: int
    url: str = Field(description="of the image as PNG in sRGB, upright")


class Result(Answer):
    """An image that a job made."""

    id: str
    seed: int
    width: int
    height: int
    command: str = Field(description='that makes it without the studio; "": there is none')
    url: str = Field(description="of the PNG; add /nearest instead of .png for photographs")


class Job(Answer):
    """A job, and how far it is."""

    id: str
    kind: str
    request: dict[str, Any]
    total: int = Field(description="images that it makes")
    created: str = Field(description="ISO 8601, UTC")
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    error: str | None
    place: int = Field(description="jobs before it")
    done: int = Field(description="images made so far")
    phase: Literal["", "fit"] = Field(description="fit: a code is fitted to the photograph")
    step: int = Field(description="of the image at work, or of the fit")
    steps: int
    seconds_left: float | None
    preview: str | None = Field(description="URL of the image at work, as PNG")
    results: list[Result]


class Jobs(Answer):
    """All jobs, the newest first."""

    jobs: list[Job]


class Neighbour(Answer):
    """A photograph near to an image."""

    name: str = Field(description="of its file")
    distance: float = Field(description="root mean square over a thumbnail, levels of 0 to 255")
    picture: str = Field(description="a small JPEG, as a data: URL")


class Nearest(Answer):
    """What an image is near to."""

    photographs: list[Neighbour]
    usual: float | None = Field(
        description="median distance of a photograph to the nearest other one"
    )
    compared: int = Field(description="photographs that were compared")
    total: int = Field(description="photographs there are")
    images: int = Field(description="photographs, their parts and mirror images, compared")
    given: bool = Field(description="whether `--photographs` named them; else they are the run's")


class Picture(Answer):
    """Curves, or the newest sheet of samples, of a training."""

    name: str = Field(examples=["sheet"])
    title: str
    caption: str
    width: int
    height: int
    url: str = Field(description="of the PNG, another one when it changes")


class Training(Answer):
    """A training, and how far it is."""

    stage: str = Field(examples=["train_patchdm"])
    title: str
    unit: str = Field(description="what it counts", examples=["images"])
    seen: int
    total: int
    state: Literal["running", "stopped", "done"]
    pace: str = Field(examples=["5,000 of 150,000 images, 100/s, 24 min left"])
    pictures: list[Picture] = Field(description="the newest sheet, if there is one, then curves")


class Trainings(Answer):
    """The trainings of a run that have begun."""

    run: str | None = Field(description="name of its folder; null: the studio is in no run")
    error: str | None = Field(description="why the rest is as it was before, or empty")
    trainings: list[Training]


def problems(**why: str) -> dict[int | str, dict[str, Any]]:
    """Return responses for the API's description: `_404="no such job"`."""
    return {
        int(status.removeprefix("_")): {"model": Problem, "description": text}
        for status, text in why.items()
    }
