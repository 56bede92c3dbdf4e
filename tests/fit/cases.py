"""Cases of `patchdm fit` with measured rates: two quiet cores of an AMD EPYC (Zen 5)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ruamel.yaml import YAML

from patchdm.fit.choose import base_of
from patchdm.fit.estimate import Rates, Work
from patchdm.fit.follow import Case, Machine, Wanted
from patchdm.fit.networks import NETWORKS, Network
from tests.conftest import REPO

DEMO_RATES = Rates(windows=240, codes=4780, features=200, flops=280e9, photographs=100)
SHOWCASE_RATES = replace(DEMO_RATES, windows=155, codes=13_000)
DEMO_WORK = Work(window=0.981e9, sample=16.2e9)
"""Of the demo's network at 64x32, and below of the showcase's at 256x128."""
SHOWCASE_WORK = Work(window=2.910e9, sample=187.5e9)
TWO_CORES = Machine(cores=2, gpus=0, half=True)


def preset(name: str) -> Any:
    return YAML(typ="safe", pure=True).load(REPO / f"presets/{name}.yaml")


def network(name: str) -> Network:
    return next(each for each in NETWORKS if each.preset == name)


def case(name: str = "showcase", *, hours: float = 3.0, photographs: int = 195) -> Case:
    """Return a case of two cores, of the showcase or the demo at their sizes."""
    width, height = (256, 128) if name == "showcase" else (64, 32)
    return Case(
        wanted=Wanted(location="/photographs", width=width, height=height, hours=hours),
        photographs=photographs,
        damaged=0.0,
        machine=TWO_CORES,
        base=base_of(network(name), preset),
        rates=SHOWCASE_RATES if name == "showcase" else DEMO_RATES,
        work=SHOWCASE_WORK if name == "showcase" else DEMO_WORK,
    )
