"""Stage ablate_train: train one cell of the ablation, a variant at a seed, as the run trains."""

from __future__ import annotations

from patchdm.ablation import VARIANTS
from patchdm.config import Params
from stages import _common as paths
from stages._cells import cell_run, run_cell_stage
from stages._common import locked, publish
from stages._processes import launched
from stages.cache_embeddings import cache_embeddings
from stages.train_latent import train_latent
from stages.train_patchdm import train_patchdm


def ablate_train(params: Params, name: str) -> None:
    """Write data/ablations/NAME/models/ and data/ablations/NAME/curves/ of a cell."""
    folder, command = paths.ABLATIONS / name, ["stages.ablate_train", *name.rsplit("-", 1)]
    places = {
        paths.PATCHDM: folder / "models/patchdm",
        paths.LATENT: folder / "models/latent",
    }
    cell = cell_run("ablate_train", name, places)
    if launched():  # by the process below, which holds the lock and does the rest
        train_patchdm(params, cell)
        return
    with locked(f"ablate_train/{name}"):
        train_patchdm(params, cell, command)
        cache_embeddings(params, cell)
        train_latent(params, cell)
        curves = {"patchdm": cell / paths.PATCHDM_CURVES, "latent": cell / paths.LATENT_CURVES}
        publish(folder / "curves", curves)


if __name__ == "__main__":
    run_cell_stage(ablate_train, VARIANTS)
