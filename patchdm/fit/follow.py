"""What follows from the windows of a training: every other value of its params.yaml.

All that takes time grows with the windows, or stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from patchdm.config import Params
from patchdm.extract.splits import held_out
from patchdm.fit.estimate import Rates, Work, applications_seconds

MOST_VIEWS = 32
_LEAST_VIEWS = 8
_LEAST_IMAGES = 1250
"""Training images, of 8 views at most, below which a model copies: docs/results.md, views."""
_WINDOWS_OF_A_VIEW = 100
"""How often a code is seen: between those of the demo and of the showcase."""
_HELD_OUT, _MOST_HELD_OUT = 0.2, 1000
_LEAST_CODES, _MOST_CODES = 100_000, 6_000_000
_SAMPLES, _SAMPLES_SHARE = (1024, 224, 112, 64), 0.05
"""How many samples are measured, and the time that they may take, in that of the training."""
_EFFORTS = ((24, 100, 2, 2), (12, 100, 2, 2), (8, 60, 2, 1), (4, 30, 2, 1))
"""Restored photographs, steps that fit a code, large samples in training widths and heights."""
_EFFORT_SHARE = 0.15
_TOGETHER = 32 * 256 * 128
"""Pixels that the showcase samples together."""
_MOST_THREADS = 16

Values = dict[str, dict[str, Any]]
"""Sections of a params.yaml."""
_Option = TypeVar("_Option")
_Chosen = dict[str, tuple[Any, str]]
"""Dotted key -> its value, and why; empty: that is clear."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the user asks for."""

    location: str
    width: int
    height: int
    hours: float


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a run may use."""

    cores: int
    gpus: int
    half: bool  # whether it computes in bf16 natively


@dataclass(frozen=True, kw_only=True)
class Case:
    """All that a choice depends on: the request, the photographs, the machine, a network on it."""

    wanted: Wanted
    photographs: int  # that can be read
    damaged: float  # share of those looked at
    machine: Machine
    base: Mapping[str, Mapping[str, Any]]  # params that the network comes with
    rates: Rates
    work: Work

    @property
    def test_fraction(self) -> float:
        """Share that is held out: two photographs or more, and not thousands."""
        fraction = min(_HELD_OUT, max(_MOST_HELD_OUT / self.photographs, 0.001))
        return round(max(fraction, 2 / self.photographs), 4)

    @property
    def test(self) -> int:
        """Photographs that are held out."""
        return held_out(self.photographs, self.test_fraction)

    @property
    def threads(self) -> int:
        """Cores of a stage: a power of two, so that it divides the batch."""
        most = min(self.machine.cores, _MOST_THREADS, self.base["train"]["batch_size"])
        return 1 << (most.bit_length() - 1)

    @property
    def batch(self) -> int:
        """Windows of a step: GPUs want more at once, and so do many cores."""
        own: int = self.base["train"]["batch_size"]
        gpus = self.machine.gpus
        return max(own, 64) * gpus if gpus else max(own, 4 * self.threads)


def follow(case: Case, windows: int) -> tuple[Values, dict[str, str]]:
    """Return the params of a training of so many windows, and why they are so."""
    training = windows / case.rates.windows
    chosen = _machine(case) | _data(case, windows) | _train(case, windows) | _latent(case, windows)
    chosen |= _samples(case, training)
    values = _with(case.base, {key: value for key, (value, _) in chosen.items()})
    values["ablation"] = {"variants": [], "samplings": [], "seeds": []}
    efforts = [_with(values, _effort(case, effort)) for effort in _EFFORTS]

    def seconds(of: Values) -> float:
        params = Params.model_validate(of)
        return applications_seconds(params, case.test, case.rates, case.work)

    reasons = {key: why for key, (_, why) in chosen.items() if why}
    reasons["applications.num_images"] = (
        f"the most that takes {_EFFORT_SHARE:.0%} of the training's time, with the steps below"
    )
    return _first(efforts, seconds, _EFFORT_SHARE * training), reasons


def views_of(training: int, windows: int) -> int:
    """Return the views of each of so many training photographs: the fewer there are, the more.

    At least so many that a model need not copy, at most 32; between, as many as the windows can
    teach a code each.
    """
    least = min(_LEAST_VIEWS, -(-_LEAST_IMAGES // training))
    return max(least, min(MOST_VIEWS, windows // (_WINDOWS_OF_A_VIEW * training)))


def _machine(case: Case) -> _Chosen:
    machine, threads = case.machine, case.threads
    spare = "" if threads == machine.cores else f"; a power of two, at most {_MOST_THREADS}"
    processes = f"{machine.gpus} GPUs" if machine.gpus else "no GPU: one process per thread"
    return {
        "base.threads": (threads, f"{machine.cores} cores here{spare}"),
        "machine.workers": (machine.cores, "one process per core decodes photographs"),
        "machine.processes": (machine.gpus or None, processes),
    }


def _data(case: Case, windows: int) -> _Chosen:
    wanted, training = case.wanted, case.photographs - case.test
    views = views_of(training, windows)
    images = training * views
    share, unreadable = 0.0, "all of those looked at can be read"
    if case.damaged:
        share = round(min(0.9, 2 * case.damaged + 0.01), 2)
        unreadable = f"{case.damaged:.1%} of those looked at cannot be read"
    seen = (
        f"{images:,} training images, each seen {windows / images:,.0f} times: of few images a "
        "model copies, of few windows a code is bad"
    )
    kept = f"{case.test:,} of {case.photographs:,} photographs are held out"
    return {
        "data.source": ("folder", "your photographs, which stay where they are"),
        "data.location": (wanted.location, ""),
        "data.damaged_fraction": (share, unreadable),
        "data.width": (wanted.width, "as `--size` says"),
        "data.height": (wanted.height, ""),
        "data.views": (views, seen),
        "data.test_fraction": (case.test_fraction, kept),
    }


def _train(case: Case, windows: int) -> _Chosen:
    own, rate = case.base["train"], case.rates.windows
    rounded = _rounding(case.batch)
    batch = "as in the preset"
    if case.batch != own["batch_size"]:
        batch = f"{own['batch_size']} in the preset; more keep this machine busy, not measured"
    half = "bf16 here" if case.machine.half else "float32 here, which has no bf16"
    warmup = rounded(min(own["warmup_images"], windows // 20))
    return {
        "train.images_seen": (windows, f"what fits {case.wanted.hours:g} h, at {rate:,.0f}/s"),
        "train.batch_size": (case.batch, batch),
        "train.warmup_images": (warmup, "as in the preset, at most a twentieth of the training"),
        "train.mixed_precision": ("auto", half),
        "train.log_every": (rounded(windows // 60), "60 points of a curve"),
        "train.checkpoint_every": (
            rounded(min(windows // 4, int(120 * rate))),
            "about every two minutes",
        ),
        "train.sheet_every": (rounded(windows // 8), "eight sheets"),
    }


def _latent(case: Case, windows: int) -> _Chosen:
    own, rounded = case.base["latent"], _rounding(case.base["latent"]["batch_size"])
    ratio = own["codes_seen"] / case.base["train"]["images_seen"]
    codes = rounded(int(min(_MOST_CODES, max(_LEAST_CODES, ratio * windows))))
    limits = f"within {_LEAST_CODES:,} and {_MOST_CODES:,}"
    return {
        "latent.codes_seen": (codes, f"{ratio:.2g} per window, as in the preset, {limits}"),
        "latent.log_every": (rounded(codes // 60), "60 points of a curve"),
        "latent.checkpoint_every": (rounded(codes // 4), ""),
    }


def _samples(case: Case, training: float) -> _Chosen:
    """Choose samples and evaluation for a training of so many seconds."""
    wanted, work, flops = case.wanted, case.work, case.rates.flops
    count = _first(_SAMPLES, lambda n: n * work.sample / flops, _SAMPLES_SHARE * training)
    why = f"the most that takes {_SAMPLES_SHARE:.0%} of the training's time; "
    why += "FID compares with that of the demo and the showcase"
    if count != 224:
        why += " for 224 alone, KID always"
    together = max(1, min(32, _TOGETHER // (wanted.width * wanted.height)))
    precision = ("auto", "bf16 where the GPU has it") if case.machine.gpus else ("no", "float32")
    return {
        "sample.num_images": (count, why),
        "sample.batch_size": (together, "as many pixels as the showcase, at most 32 images"),
        "sample.mixed_precision": precision,
        "evaluate.crop_size": (min(wanted.width, wanted.height) // 2, "half of the shorter side"),
        "evaluate.kid_subset_size": (min(100, count // 2), "100, or half of the samples"),
    }


def _effort(case: Case, effort: tuple[int, int, int, int]) -> dict[str, int]:
    images, steps, across, down = effort
    return {
        "applications.num_images": max(2, min(images, case.test)),
        "applications.code_steps": steps,
        "applications.large_width": across * case.wanted.width,
        "applications.large_height": down * case.wanted.height,
    }


def _first(options: Sequence[_Option], cost: Callable[[_Option], float], limit: float) -> _Option:
    """Return the first option within the limit, or else the last one."""
    return next((option for option in options if cost(option) <= limit), options[-1])


def _rounding(unit: int) -> Callable[[int], int]:
    """Return what rounds down to a multiple, of at least one unit."""
    return lambda value: max(1, value // unit) * unit


def _with(base: Mapping[str, Mapping[str, Any]], new: Mapping[str, Any]) -> Values:
    values = {section: dict(keys) for section, keys in base.items()}
    for key, value in new.items():
        section, _, name = key.partition(".")
        values[section][name] = value
    return values
