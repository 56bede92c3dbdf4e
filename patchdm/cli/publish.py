"""`patchdm save` and `push`: a model as one folder with its card, here or on the hub."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from patchdm import hub
from patchdm.card import card, renewed
from patchdm.cli.defaults import Defaults
from patchdm.cli.models import load_pipeline, run_of
from patchdm.config import Params
from patchdm.devices import cast
from patchdm.errors import PatchDMError
from patchdm.files import replacing, sha256
from patchdm.formats.raw import MANIFEST, read_manifest
from patchdm.models import CodeTable
from patchdm.pipeline import PatchDMPipeline
from patchdm.saved import CARD, INDEX, SUMS, check_sums, read_index, write_sums

log = logging.getLogger(__name__)

_WEIGHTS = Path("patchdm/unet/diffusion_pytorch_model.safetensors")


def save(model: Path, out: Path, *, name: str, half: str | None, licence: str | None) -> None:
    """Write a model as one compact folder, with its card and the hashes of its files.

    The codes of single training images are left out: sampling and fitting need none.

    Args:
        model: as in `load_pipeline`; its own card is taken, if it has one, but for the networks.
        out: a new folder.
        name: by which the model is then loaded, for the card.
        half: "bf16" or "fp16", in which weights are stored; None: as they are loaded.
        licence: of the weights, as the hub names it; None: not said.

    Raises:
        PatchDMError: no readable model, `out` exists, or weights do not fit into half precision.
    """
    if out.exists():
        raise PatchDMError(f"{out}: exists, expected a new folder")
    pipe = load_pipeline(model, "cpu")
    run = run_of(model, pipe)
    pipe.register_to_config(_name_or_path="")  # of this host
    if run:
        pipe.register_to_config(defaults=Defaults.of(run).model_dump(mode="json"))
    _compact(pipe, half)
    with replacing(out) as fresh:
        pipe.save_pretrained(fresh)
        text = _card(model, pipe, run, name, licence)
        (fresh / CARD).write_text(text, encoding="utf-8")
        write_sums(fresh)


def push(
    model: Path, repository: str, *, private: bool, branch: str | None, licence: str | None
) -> str:
    """Upload a model and its card; return the URL of the commit.

    A folder of `save` is uploaded as it is, every other model as `save` writes it. All else is as
    in `save` and `hub.upload`.
    """
    if licence is None and all((model / name).is_file() for name in (INDEX, CARD, SUMS)):
        read_index(model, str(model))
        check_sums(model)
        return hub.upload(model, repository, private=private, branch=branch)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        save(model, folder, name=repository, half=None, licence=licence)
        return hub.upload(folder, repository, private=private, branch=branch)


def _compact(pipe: PatchDMPipeline, half: str | None) -> None:
    """Drop the codes of training images and the paths of this host, and cast all weights."""
    if (table := pipe.code_table) is not None:
        empty = CodeTable.from_config({**table.config, "num_images": 0})
        empty.whitening.load_state_dict(table.whitening.state_dict())
        pipe.code_table = empty
    networks: dict[str, Any] = {
        name: part for name, part in pipe.components.items() if isinstance(part, nn.Module)
    }
    for name, part in networks.items():
        part.register_to_config(_name_or_path="")
        if half:
            cast(part, half)
            if not all(tensor.isfinite().all() for tensor in part.state_dict().values()):
                raise PatchDMError(
                    f"--half: found {half}, which weights of {name} are too large for"
                )


def _card(
    model: Path, pipe: PatchDMPipeline, run: Params | None, name: str, licence: str | None
) -> str:
    """Return a model's own card, true of what is saved, or one from what its run has left."""
    if (model / CARD).is_file():
        return renewed((model / CARD).read_text(encoding="utf-8"), pipe, licence=licence)
    root = model.resolve().parents[1]
    metrics = _metrics(root / "reports/metrics.json", model / _WEIGHTS) if run else {}
    photographs: dict[Any, int] = {}
    if run and (root / "data/raw" / MANIFEST).is_file():
        photographs = read_manifest(root / "data/raw")["licence"].value_counts().to_dict()
    return card(name, pipe, licence=licence, run=run, metrics=metrics, photographs=photographs)


def _metrics(file: Path, weights: Path) -> Mapping[str, Any]:
    """Return the metrics of a run, if they are of these weights."""
    if not file.is_file():
        return {}
    try:
        metrics = json.loads(file.read_bytes())
        if metrics["unet_weights_hash"] == sha256(weights):
            return dict(metrics)
    except (ValueError, KeyError, TypeError):
        pass
    log.warning("warning: %s: passed over, it measures another model", file)
    return {}
