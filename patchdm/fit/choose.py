"""The run that fits some hours: a pure function of counts and measured rates.

One number decides, the windows of the training; all else follows from it (`follow`), and takes the
longer the more there are. So the most windows that fit are found by halving, and more hours never
give fewer of one network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from patchdm.config import Params
from patchdm.errors import PatchDMError
from patchdm.fit.estimate import Rates, Work, seconds_of
from patchdm.fit.follow import Case, Values, follow
from patchdm.fit.networks import Network

LEAST_PHOTOGRAPHS = 8
_MOST_WINDOWS = 10**9
_SHORT = 2**14
"""Windows of a draft."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A run: its params, why they are so, the seconds of its stages, and its network."""

    values: Values
    reasons: dict[str, str]  # dotted key -> why it has its value
    params: Params
    seconds: dict[str, float]
    network: Network


def choose(case: Case, network: Network) -> Choice:
    """Choose the run of a network with the most windows that fits the hours.

    Raises:
        PatchDMError: too few photographs, or too few hours for the least training; it says how
            many would do.
    """
    check_photographs(case.wanted.location, case.photographs)
    batch, limit = case.batch, case.wanted.hours * 3600

    def run(steps: int) -> Choice:
        values, reasons = follow(case, steps * batch)
        params = Params.model_validate(values)
        seconds = seconds_of(params, case.photographs, case.rates, case.work)
        return Choice(
            values=values, reasons=reasons, params=params, seconds=seconds, network=network
        )

    def fits(steps: int) -> bool:
        return sum(run(steps).seconds.values()) <= limit

    least = -(-network.least_windows // batch)
    if not fits(least):
        needed = sum(run(least).seconds.values()) / 3600
        raise PatchDMError(
            f"--hours: found {case.wanted.hours:g}, expected {_rounded_up(needed)} or more: "
            f"{case.photographs:,} photographs at {case.wanted.width}x{case.wanted.height} and the "
            f"least training that shows anything, {least * batch:,} windows at "
            f"{case.rates.windows:,.0f}/s"
        )
    return run(_largest(fits, least, _MOST_WINDOWS // batch))


def check_photographs(location: str, photographs: int) -> None:
    """Refuse too few photographs."""
    if photographs < LEAST_PHOTOGRAPHS:
        raise PatchDMError(
            f"{location}: found {photographs} photographs that can be read, expected "
            f"{LEAST_PHOTOGRAPHS} or more"
        )


def base_of(network: Network, preset: Callable[[str], Mapping[str, Mapping[str, Any]]]) -> Values:
    """Return the params that a network comes with: its preset, measured as the showcase is."""
    values = {section: dict(keys) for section, keys in preset("showcase").items()}
    own = preset(network.preset)
    for section in ("model", "diffusion", "train", "latent", "sample"):
        values[section] = dict(own[section])
    return values


def draft(case: Case) -> Params:
    """Return short params of a case without rates, whose networks can be measured."""
    values, _ = follow(case, _SHORT)
    return Params.model_validate(values)


def with_batch(choice: Choice, first: float, each: float, memory: float) -> Choice:
    """Return the choice with as many images sampled together as fit, at most as many as it has.

    Args:
        first, each: bytes of the first image and of each one more.
        memory: bytes that may be taken.
    """
    most = max(1, int((memory - first) // each) + 1)
    if most >= choice.params.sample.batch_size:
        return choice
    values = choice.values | {"sample": choice.values["sample"] | {"batch_size": most}}
    reasons = choice.reasons | {"sample.batch_size": "what fits the memory"}
    params = Params.model_validate(values)
    return replace(choice, values=values, reasons=reasons, params=params)


UNMEASURED = Rates(windows=1, codes=1, features=1, flops=1, photographs=1)
NO_WORK = Work(window=0, sample=0)
"""Of a case whose draft is to be measured."""


def _largest(fits: Callable[[int], bool], low: int, high: int) -> int:
    """Return the largest number that fits, between one that does and one that does not."""
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _rounded_up(hours: float) -> str:
    """Write hours with two digits behind the point, or one from 10 on, never fewer."""
    unit = 100 if hours < 10 else 10
    return f"{-(-hours * unit // 1) / unit:g}"
