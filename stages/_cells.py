"""What the stages of the ablation share: a cell is a run of its own, a variant at a seed.

Its stages are the run's, called with the cell's params and paths.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from patchdm.ablation import Changes, variant_params
from patchdm.config import Params
from patchdm.errors import PatchDMError
from stages._common import (
    FEATURES,
    LATENT,
    METRICS,
    PATCHDM,
    PATCHES,
    REFERENCE,
    SAMPLES,
    STATE,
    Run,
    run_command,
)
from stages._declared import declared_outputs

SHARED = (PATCHES, FEATURES, REFERENCE)
"""What a cell reads of the run."""


def run_cell_stage(stage: Callable[[Params, str], None], variants: Changes) -> None:
    """Run a stage as the command `python -m stages.NAME VARIANT SEED`.

    The stage gets the cell's params, and the cell's name: VARIANT-SEED.

    Args:
        variants: those that the stage knows.
    """
    name, words = stage.__name__, sys.argv[1:]

    def run(params: Params) -> None:
        variant, seed = _arguments(words, variants)
        stage(variant_params(params, variant, seed), f"{variant}-{seed}")

    run_command(name, run, declared_outputs(name, cell="-".join(words)), words)


def cell_run(stage: str, name: str, places: Mapping[Path, Path]) -> Run:
    """Return where the files of a cell lie: in `.state/<stage>/<name>`, which is its own.

    Args:
        stage: that works there.
        name: VARIANT-SEED.
        places: path in a run -> where that of the cell lies, of what DVC keeps.
    """
    root = STATE / stage / name
    return Run(root, {STATE: root} | {path: path for path in SHARED} | dict(places))


def measured_run(stage: str, name: str, *, models: Path, samples: Path, metrics: Path) -> Run:
    """Return where the files lie of a cell that is sampled from some models, and measured."""
    places = {PATCHDM: models / "patchdm", LATENT: models / "latent"}
    return cell_run(stage, name, places | {SAMPLES: samples, METRICS: metrics})


def _arguments(words: list[str], variants: Changes) -> tuple[str, int]:
    match words:
        case [variant, seed] if variant in variants and seed.isdecimal():
            return variant, int(seed)
    known = ", ".join(variants)
    raise PatchDMError(f"arguments: found {words}, expected a variant ({known}) and a seed")
