"""The card of a model: what it is, of what data and training, how good, and what it is not."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from patchdm.config import Params, params_hash
from patchdm.pipeline import PatchDMPipeline
from patchdm.saved import SUMS

_SETS = {"samples": "samples", "test": "held-out photographs", "blurred": "blurred photographs"}
_MEASURES = {
    "fid": "FID", "kid": "KID", "kid_unseen": "KID to unseen", "precision": "precision",
    "recall": "recall", "seam_worst": "worst seam", "seam": "seam score",
}  # fmt: skip
_NETWORKS = ("unet", "latent", "encoder", "code_table")


def card(
    name: str,
    pipe: PatchDMPipeline,
    *,
    licence: str | None,
    run: Params | None,
    metrics: Mapping[str, Any],
    photographs: Mapping[str, int],
) -> str:
    """Return the card in Markdown, under the header that the hub reads.

    Args:
        name: by which the model is loaded.
        licence: of the weights, as the hub names it; None: not said.
        run: that trained the model; None: unknown, and nothing is said of it.
        metrics: reports/metrics.json of this model; empty: not measured.
        photographs: licence -> number of photographs; empty: unknown.
    """
    header = ModelCardData(
        license=licence,
        library_name="patchdm",
        pipeline_tag="unconditional-image-generation",
        tags=["patch-dm", "diffusion", "diffusers"],
    )
    sections = {
        "Use": _use(name, pipe),
        "Model": _model(pipe),
        "Data": _data(run, metrics, photographs),
        "Training": _training(run),
        "Metrics": _metrics(metrics),
        "Limits": "The model draws what its photographs show, and nothing else. Trained on few, it "
        "comes near to them: compare before you call an image new. Images beyond the training "
        "size continue its textures, not its composition.",
        "Files": f"`sha256sum -c {SUMS}` compares the files with their hashes.",
    }
    parts = (f"## {title}\n\n{text}\n" for title, text in sections.items() if text)
    return f"---\n{header.to_yaml()}\n---\n\n# {name}\n\n" + "\n".join(parts)


def renewed(text: str, pipe: PatchDMPipeline, *, licence: str | None) -> str:
    """Return a card with the networks of a pipeline, and another licence, if one is given."""
    section = f"## Model\n\n{_model(pipe)}\n\n"
    text = re.sub(r"(?ms)^## Model\n.*?(?=^## |\Z)", lambda _: section, text, count=1)
    if licence is None:
        return text
    found = ModelCard(text, ignore_metadata_errors=True)
    setattr(found.data, "license", licence)  # noqa: B010 - mypy knows no keys of it
    return str(found)


def _use(name: str, pipe: PatchDMPipeline) -> str:
    lines = [
        "from patchdm.pipeline import PatchDMPipeline",
        "",
        f'pipe = PatchDMPipeline.from_pretrained("{name}")',
        "images = pipe(4).images",
    ]
    if pipe.config.defaults is not None:
        lines[1:1] = ["from patchdm.sampling.solvers import solver"]
        lines[-1:] = [
            "defaults = pipe.config.defaults",
            'pipe.scheduler = solver(pipe.scheduler, defaults["solver"])',
            'images = pipe(4, **defaults["sample"]).images',
        ]
    command = f"patchdm sample {name} --seeds 0:16 --out DIR --grid"
    return "```console\n{}\n```\n\n```python\n{}\n```".format(command, "\n".join(lines))


def _model(pipe: PatchDMPipeline) -> str:
    config, sizes = pipe.unet.config, []
    for name in _NETWORKS:
        if (network := getattr(pipe, name)) is not None:
            kind = str(network.dtype).removeprefix("torch.")
            count = network.num_parameters() / 1e6  # without what is measured, not learned
            size = f"{count:.2f} M parameters in {kind}" if count else "without the images' codes"
            sizes.append(f"`{name}` {size}")
    size = config.sample_size and f"images of {config.sample_size[1]}x{config.sample_size[0]} in "
    text = (
        f"Patch-DM (arXiv 2308.01316): {size or ''}patches of {config.patch_size} pixels, joined "
    )
    text += f"by `{config.collage}` collage. {', '.join(sizes)}."
    if pipe.config.defaults is None:
        return text
    return f"{text} Defaults of `patchdm`:\n\n```json\n{json.dumps(pipe.config.defaults)}\n```"


def _data(run: Params | None, metrics: Mapping[str, Any], photographs: Mapping[str, int]) -> str:
    found = []
    if photographs:
        licences = ", ".join(f"{licence}: {n}" for licence, n in photographs.items())
        found.append(f"{sum(photographs.values())} photographs ({licences})")
    if run:
        found.append(f"source `{run.data.source}`")
    if "n_train" in metrics:
        found.append(f"{metrics['n_train']} training images")
        found.append(f"{metrics.get('n_test', 0)} held-out ones")
    return f"{', '.join(found)}." if found else ""


def _training(run: Params | None) -> str:
    if run is None:
        return ""
    train = run.train
    return (
        f"{train.images_seen:,} windows in batches of {train.batch_size}, learning rate "
        f"{train.learning_rate:g}, then {run.latent.codes_seen:,} codes for the latent model; "
        f"averaged weights. Hash of params.yaml: `{params_hash(run)[:12]}`."
    )


def _metrics(metrics: Mapping[str, Any]) -> str:
    if not metrics:
        return ""
    keys = [key for key in _MEASURES if f"{key}_samples" in metrics]
    rows = [["", *(_MEASURES[key] for key in keys)], ["---"] * (1 + len(keys))]
    rows += [
        [title, *(str(metrics.get(f"{key}_{name}", "")) for key in keys)]
        for name, title in _SETS.items()
    ]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    near = {
        kind: found["nearer_than_held_out"] for kind, found in metrics.get("nearest", {}).items()
    }
    text = f"By {metrics.get('extractor')}, of {metrics.get('n_samples')} samples:\n\n{table}"
    if not near:
        return text
    shares = ", ".join(f"{share:.0%} by {kind}" for kind, share in near.items())
    return (
        f"{text}\n\nOf all pairs of a sample and a held-out photograph, the sample is nearer to "
        f"the training photographs in {shares}; 50 % copies nothing."
    )
