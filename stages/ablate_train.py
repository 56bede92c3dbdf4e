"""Stage ablate_train: train one cell of the ablation, a variant at a seed, as the run trains."""

from __future__ import annotations

from patchdm.config import Params
from stages._cells import cell_folder, run_cell_stage, run_in
from stages._common import (
    ABLATIONS,
    FEATURES,
    LATENT,
    LATENT_CURVES,
    PATCHDM,
    PATCHDM_CURVES,
    PATCHES,
    publish,
)


def ablate_train(params: Params, cell: str) -> None:
    """Write data/ablations/CELL/models/ and data/ablations/CELL/curves/."""
    inputs = {PATCHES: PATCHES, FEATURES: FEATURES}
    with cell_folder("ablate_train", cell, params, inputs) as folder:
        run_in(folder, "stages.train_patchdm")
        run_in(folder, "stages.cache_embeddings")
        run_in(folder, "stages.train_latent")
        models, curves = ABLATIONS / cell / "models", ABLATIONS / cell / "curves"
        publish(models / "patchdm", {".": folder / PATCHDM})
        publish(models / "latent", {".": folder / LATENT})
        publish(curves, {"patchdm": folder / PATCHDM_CURVES, "latent": folder / LATENT_CURVES})


if __name__ == "__main__":
    run_cell_stage(ablate_train)
