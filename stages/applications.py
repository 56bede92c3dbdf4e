"""Stage applications: held-out photographs in- and outpainted, and images beyond the training size.

See `patchdm.applications`; pictures go to data/applications/, tables to reports/applications/.
"""

from __future__ import annotations

from pathlib import Path

from patchdm.applications import Tools, drawn, enlarge, restore
from patchdm.backbones.load import load_backbone
from patchdm.config import Params
from patchdm.console import progress
from patchdm.devices import cast, device_for
from patchdm.formats.images import save_png
from patchdm.formats.patch_store import PatchStore
from patchdm.formats.shards import png_name
from patchdm.metrics.judge import load_judge
from patchdm.pipeline import PatchDMPipeline
from patchdm.sampling.encode import CodeFit
from patchdm.sampling.seeds import sampling_options
from patchdm.sampling.solvers import solver
from stages import _common as paths
from stages._common import run_stage, state_dir
from stages._outputs import writing


def applications(params: Params) -> None:
    """Write data/applications/ (pictures), reports/applications/applications.csv and large.csv."""
    config, store = params.applications, PatchStore(paths.PATCHES)
    device = device_for(deterministic=params.machine.deterministic)
    rows = store.photographs("test")[: config.num_images]
    judge = load_judge(params.evaluate, params.base.seed, params.model.patch_size, device)
    restorations = 2 * len(drawn(len(rows)))
    with (
        state_dir("applications", params, [paths.PATCHES, paths.PATCHDM, paths.LATENT]) as state,
        progress("applications", restorations + 3 * len(rows), "images") as show,
    ):
        latent = paths.LATENT if params.model.code != "none" else None
        pipe = PatchDMPipeline.from_stages(paths.PATCHDM, latent)
        pipe.set_progress_bar_config(disable=True)  # the stage has its own
        cast(pipe.unet, params.sample.mixed_precision)
        options = sampling_options(params) | {"num_inference_steps": config.num_steps}
        tools = Tools(
            pipe.to(device), store, judge, config, options, params.sample.batch_size, state, show
        )
        restored, pictures = restore(tools, rows, _fit(params))
        pipe.scheduler = solver(pipe.scheduler, params.sample.solver)
        large, samples = enlarge(tools, rows, done=restorations)
        with writing(paths.APPLICATIONS) as fresh:
            for folder, images in (pictures | samples).items():
                for number, image in enumerate(images):
                    save_png(fresh / folder / png_name(number), image)
        with writing(paths.APPLICATION_TABLES) as fresh:
            fresh.mkdir()
            restored.to_csv(fresh / "applications.csv", index=False)
            large.to_csv(fresh / "large.csv", index=False)


def _fit(params: Params) -> CodeFit | None:
    """Return how codes are fitted to photographs; None where they come from elsewhere."""
    config, features = params.applications, params.features
    if params.model.code != "table" or config.code == "latent":
        return None
    weights = Path(features.weights) if features.weights else None
    return CodeFit.of(load_backbone(features.backbone, weights, "cpu").features, config)


if __name__ == "__main__":
    run_stage(applications)
