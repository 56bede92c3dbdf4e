"""The names that a user chooses from.

Nothing heavy is imported: params.yaml and the command line are checked with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

Solver = Literal["ddim", "dpm-solver++", "unipc"]
Tiling = Literal["shifted", "blend"]
Positions = Literal["extrapolate", "rescale", "reflect"]
Wrap = Literal["none", "x", "y", "xy"]
Precision = Literal["no", "bf16", "fp16", "auto"]
Half = Literal["bf16", "fp16"]
Code = Literal["image", "latent", "field"]
SampleCode = Literal["latent", "training"]
Format = Literal["png", "webdataset"]
OutputType = Literal["pil", "np", "pt", "latent"]


def check_choice(name: str, value: object, choices: Any) -> None:
    """Raise a ValueError if a value is none of the choices, a Literal of strings."""
    if value not in (names := get_args(choices)):
        raise ValueError(f"`{name}` is {value!r}, expected {', '.join(names)}")


def check_names(name: str, values: Iterable[str], known: Sequence[str]) -> None:
    """Raise a ValueError if some of the values are not known."""
    if unknown := [value for value in values if value not in known]:
        raise ValueError(f"`{name}` has {unknown}, expected {known}")


def checked_positions(positions: str) -> list[str]:
    """Return the names for rows and for columns, or raise a ValueError."""
    names = positions.split(",")
    if len(names) > 2 or not {*names} <= {*get_args(Positions)}:
        raise ValueError(
            f"`positions` is {positions!r}, expected {', '.join(get_args(Positions))}, or two of "
            "them as ROWS,COLUMNS"
        )
    return names if len(names) == 2 else names * 2
