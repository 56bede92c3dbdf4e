"""The base class and the types of all sections of params.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, le=1)]


def _not_blank(text: str) -> str:
    if not text.strip() or "\0" in text:
        raise ValueError(f"found {text!r}, expected text that is not blank, without NUL")
    return text


Text = Annotated[str, AfterValidator(_not_blank)]


class Section(BaseModel):
    """Base of all sections: unknown keys and silent conversions are refused."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def check_multiple(value: int, divisor: int, name: str, divisor_name: str) -> None:
    """Raise a ValueError if a value is no multiple of a divisor."""
    if value % divisor:
        raise ValueError(f"{name} is {value}, expected multiples of {divisor_name} = {divisor}")
