"""The report's page: one HTML file that needs no other file."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, StrictUndefined
from ruamel.yaml import YAML

from patchdm.config import Params
from patchdm.report.inputs import Cell, Metrics, Weights
from patchdm.report.parts import Section, Table

FID_TARGET = 0.5
"""FID of the samples over that of the blurred images: at most this."""
SEAM_TOLERANCE = 0.1
"""Score of the samples' worst border: at most this far from the 1 of real images."""

_SETS = {
    "train": "Training images (the reference)",
    "samples": "Samples",
    "blurred": "Training images blurred 8×",
    "test": "Held-out images",
}
_TITLES = {
    "KID-unseen": "KID to held-out images",
    "CropFID": "FID of crops",
    "Seam-padded": "Seam, padded",
    "Seam-worst": "Worst seam",
    "Seam-mean": "Mean seam",
}
_FORMATS = {
    "n": ",.0f",
    **dict.fromkeys(["FID", "sFID", "CropFID"], ".1f"),
    "KID": ".4f",
    **dict.fromkeys(["Precision", "Recall", "Density", "Coverage", "Coherence", "Seam"], ".3f"),
}
"""How a column of metrics.csv is written, by the start of its name."""


class Headline(NamedTuple):
    """A number in large print; `met` says whether it reaches its target, if it has one."""

    title: str
    value: str
    detail: str
    target: str | None = None
    met: bool | None = None


def render(
    params: Params,
    metrics: Metrics,
    table: pd.DataFrame,
    sections: Sequence[Section],
    *,
    findings: Mapping[str, int],
    weights: Sequence[Weights],
    cells: Mapping[str, Cell],
    versions: Mapping[str, str],
) -> str:
    """Return the report as HTML; equal input gives equal text.

    Args:
        params, metrics, weights: the run, its measures, its networks.
        table: metrics.csv, one row per set, the extractor named in the headers.
        sections: what follows the metrics, in order.
        findings: how many photographs are duplicates, quarantine (left out), enlarged.
        cells: those of its ablation, by name.
        versions: library -> version.
    """
    template = files("patchdm.report").joinpath("template.html").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(template).render(
        params=params,
        metrics=metrics,
        sections=[section for section in sections if section.tables or section.pictures],
        headlines=_headlines(metrics, table),
        metrics_table=_words(table),
        summary=_summary(params, metrics, findings, weights),
        provenance=[
            ("Git revision", metrics.git_revision),
            ("Parameters", metrics.params_hash),
            ("Images", metrics.data_hash),
            ("Extractor", metrics.extractor_weights_hash),
            *((f"Weights of {part.name}", part.sha256) for part in weights),
            *((f"U-Net of {name}", cell.unet_weights_hash) for name, cell in cells.items()),
            ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ],
        yaml=_yaml(params),
    )


def _headlines(metrics: Metrics, table: pd.DataFrame) -> list[Headline]:
    fid_name = next(name for name in table.columns if name.startswith("FID-"))
    ratio = metrics.fid_samples / (metrics.fid_blurred or math.nan)
    return [
        Headline(
            f"{fid_name} of the samples",
            f"{metrics.fid_samples:.1f}",
            f"{ratio:.2f} × the {metrics.fid_blurred:.1f} of blurred images; "
            f"{metrics.n_test} held-out images reach {metrics.fid_test:.1f}",
            f"target: at most {FID_TARGET} × blurred",
            ratio <= FID_TARGET,
        ),
        Headline(
            f"{fid_name.replace('FID', 'KID')} of the samples",
            f"{metrics.kid_samples:.4f}",
            f"± {metrics.kid_std_samples:.4f}, the standard deviation over subsets of "
            f"{metrics.kid_subset_size} images; blurred {metrics.kid_blurred:.4f}, held-out "
            f"{metrics.kid_test:.4f}. To the held-out images {metrics.kid_unseen_samples:.4f}, of "
            f"training images {metrics.kid_unseen_real:.4f}",
        ),
        Headline(
            "Worst seam of the samples",
            f"{metrics.seam_worst_samples:.3f}",
            "the step across the worst border over those beside it, relative to training images; "
            f"1 is no seam, held-out images have {metrics.seam_worst_test:.3f}. Mean of all "
            f"borders {metrics.seam_mean_samples:.3f}. Over the steps inside patches: shifted "
            f"{metrics.seam_samples:.3f} (real {metrics.seam_real:.3f}), padded "
            f"{metrics.seam_padded_samples:.3f} (real {metrics.seam_padded_real:.3f})",
            f"target: within {SEAM_TOLERANCE:.0%} of real images",
            abs(metrics.seam_worst_samples - 1) <= SEAM_TOLERANCE,
        ),
    ]


def _words(table: pd.DataFrame) -> Table:
    """Write metrics.csv in words; what was not measured is a dash.

    The extractor is left out of the titles, a standard deviation stands with its mean, and the
    standard error of drawing KID's subsets says nothing of other images.
    """
    label = next(name for name in table.columns if name.startswith("FID-")).removeprefix("FID")
    short = table.rename(columns=lambda name: name.replace(label, ""))
    columns = [name for name in short.columns if not name.endswith(("-std", "-sem"))]
    rows = [
        [_SETS.get(str(key), str(key)), *(_cell(row, name) for name in columns)]
        for key, row in short.iterrows()
    ]
    strong = [*table.index].index("samples") if "samples" in table.index else None
    return Table("", ["Set", *(_TITLES.get(name, name) for name in columns)], rows, strong)


def _cell(row: pd.Series, name: str) -> str:
    number_format = _FORMATS.get(name.partition("-")[0], "g")
    numbers = row.reindex([name, f"{name}-std"]).dropna()
    return " ± ".join(f"{value:{number_format}}" for value in numbers) or "–"


def _summary(
    params: Params, metrics: Metrics, findings: Mapping[str, int], weights: Sequence[Weights]
) -> list[tuple[str, str]]:
    data, p, sample = params.data, params.model.patch_size, params.sample
    views = f" ({data.views} views a photograph)" if data.views > 1 else ""
    flips = " (mirror images included)" if data.flips else ""
    guidance = f", guidance {sample.guidance_scale:g}" if sample.guidance_scale else ""
    found = findings["duplicates"], findings["quarantine"], findings["enlarged"]
    facts = {
        "Photographs": f"{data.source}: {data.location}",
        "Extraction": "{:,} look like another one, {:,} could not be used, {:,} are smaller than a "
        "training image".format(*found),
        "Images": f"{metrics.n_train:,} training{views}{flips}, {metrics.n_test:,} held out",
        "Patches": f"{params.cols} × {params.rows} of {p} × {p} pixels",
        "Parameters": ", ".join(f"{part.name} {_count(part.count)}" for part in weights),
        "Training": f"{params.train.images_seen:,} windows, {params.train.batch_size} a step",
        "Samples": f"{metrics.n_samples:,}, by {sample.solver.upper()} in {sample.num_steps} steps"
        f" with {sample.tiling} tiling{guidance}",
        "Extractor": f"{metrics.extractor}, images resized {metrics.resizer}",
    }
    return list(facts.items())


def _count(number: int) -> str:
    """Write a count of parameters: 812, 36.4 k, 71.40 M."""
    if number >= 10**6:
        return f"{number / 10**6:.2f} M"
    return f"{number / 10**3:.1f} k" if number >= 10**3 else str(number)


def _yaml(params: Params) -> str:
    writer: Any = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False
    text = io.StringIO()
    writer.dump(params.model_dump(mode="json"), text)
    return text.getvalue()
