"""Stage ablate_train: train one cell of the ablation, a variant at a seed, as the run trains."""

from __future__ import annotations

from patchdm.config import Params
from stages._cells import cell_run, run_cell_stage
from stages._common import (
    ABLATIONS,
    LATENT,
    LATENT_CURVES,
    PATCHDM,
    PATCHDM_CURVES,
    locked,
    publish,
)
from stages._processes import launched
from stages.cache_embeddings import cache_embeddings
from stages.train_latent import train_latent
from stages.train_patchdm import train_patchdm


def ablate_train(params: Params, name: str) -> None:
    """Write data/ablations/NAME/models/ and data/ablations/NAME/curves/ of a cell."""
    models, command = ABLATIONS / name / "models", ["stages.ablate_train", *name.rsplit("-", 1)]
    places = {PATCHDM: models / "patchdm", LATENT: models / "latent"}
    cell = cell_run("ablate_train", name, places)
    if launched():  # by the process below, which holds the lock and does the rest
        train_patchdm(params, cell)
        return
    with locked(f"ablate_train/{name}"):
        train_patchdm(params, cell, command)
        cache_embeddings(params, cell)
        train_latent(params, cell)
        curves = {"patchdm": cell / PATCHDM_CURVES, "latent": cell / LATENT_CURVES}
        publish(ABLATIONS / name / "curves", curves)


if __name__ == "__main__":
    run_cell_stage(ablate_train)
