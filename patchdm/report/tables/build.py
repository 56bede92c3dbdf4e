"""The tables, each the paper's numbers next to those of a run.

What was measured by other features or on another number of images stands in another column,
whose title says so. A cell is empty where nothing is known or was measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from string import digits
from typing import Any

import pandas as pd

from patchdm.ablation import CHANGES
from patchdm.report.tables.paper import Number, Source, one_source, paper_numbers
from patchdm.report.tables.results import Result, Spread, difference, spread

METRICS = ("FID", "sFID", "KID", "Precision", "Recall")
"""Metrics of the paper's tables, and KID, which few images suffice for; keys are in lower case."""
_SECOND = {
    "KID to unseen": "kid_unseen", "crop-FID": "crop_fid", "coherence": "coherence",
    "worst seam": "seam_worst",
}  # fmt: skip
"""Columns of the ablation next to FID and KID -> their keys."""
_OLDER = {"seam": "seam", "padded seam": "seam_padded"}
_COMPARED = {"FID": "fid", "KID": "kid"} | _SECOND
TOLERANCE = "the tolerance is two standard deviations over the training seeds."
_NEEDED = "Inception's weights (are fetched), a GPU with 24 GB; patchdm plan says how many hours"
TAGS = (
    "Tags: P stated by the paper, C read from the authors' code, 2nd quoted by a second text, "
    "counted by us in networks of the authors' layout."
)
ABLATION = (
    "Every variant trained, sampled and measured alike; mean, standard deviation (std, ±) and "
    "minimum over the training seeds. A seam of 1 is no seam. Coherence is the correlation between "
    "the features of an image's halves."
)
CAPTIONS = {
    "quality": "Image quality. The paper's numbers and the measured ones are of different images "
    "and features and do not compare unless their columns name the same; "
    f"{TOLERANCE} {TAGS}",
    "ablation": f"{ABLATION} The paper's FID are of other images and features: compare the order "
    f"alone. Of FID {TOLERANCE} `make study` measures all rows on the bundled photographs; "
    "`python -m pipelines.evaluate_ablations preset=ffhq256 variants=[full,no-code] seeds=[0]` "
    f"some on the paper's, with what `make paper PRESET=ffhq256` needs, once a variant. {TAGS}",
    "differences": "What each variant differs from `full` by, paired by training seed: the mean, "
    "and Student's 95 % interval. Where it holds 0, these seeds show no difference.",
    "parameters": "Parameters in millions. Those counted in the paper's layout are of a joint "
    f"encoder; a table has one code an image instead. {TAGS}",
    "resolution": "Memory and time of a denoising step against resolution, measured by "
    "`python -m benchmarks.resolution`; the paper's are not known to us.",
}


def quality_table(data: str, size: str, results: Sequence[Result]) -> pd.DataFrame:
    """Compare with the paper on its data sets.

    Args:
        data: the data set of the run, by the preset's name where it is one of the paper's.
        size: of its images, WIDTHxHEIGHT.
        results: of the run, one for each training seed.

    Raises:
        PatchDMError: the results are not all of one extractor and n.
    """
    known = {(n.data, n.size, n.model, n.quantity): n for n in paper_numbers("quality") if n.source}
    paper = one_source((n.source for n in known.values() if n.source), "paper")
    measured = one_source((result.source for result in results), "measured")
    own = {(data, size, "Patch-DM", metric): metric.lower() for metric in METRICS}
    rows = []
    for place in known | own:
        titles = ("data", "size", "model", "metric")
        row: dict[str, Any] = dict(zip(titles, place, strict=True))
        row |= _paper_cells(known.get(place), f"paper ({paper})")
        of = spread(results if place in own else [], own.get(place, ""))
        row[f"measured ({measured})"] = of.mean
        row |= _about(of, len(results), measured)
        rows.append(row | {"to measure it": "" if place in own else _remedy(*place[:3:2])})
    return pd.DataFrame(rows)


def _remedy(data: str, model: str) -> str:
    """Say what measures a number of the paper here, and what that needs."""
    if model != "Patch-DM":
        return "not by this software"
    (count,) = (
        n.value for n in paper_numbers("run") if (n.data, n.quantity) == (data, "photographs")
    )
    come = "are fetched" if data.startswith("lsun") else f"in data/sources/{data.rstrip(digits)}"
    return f"make paper PRESET={data}: {count:,.0f} photographs ({come}), {_NEEDED}"


def ablation_table(cells: Mapping[str, Sequence[Result]], run: Result) -> pd.DataFrame:
    """Compare those variants and samplings that the paper has or that were measured.

    Args:
        cells: name -> results, one for each training seed.
        run: result of the run itself; the cells are measured as it is.

    Raises:
        PatchDMError: the results are not all of one extractor and n.
    """
    known = {n.model: n for n in paper_numbers("ablation")}
    paper = one_source((n.source for n in known.values() if n.source), "paper FID")
    measured = one_source((of.source for of in chain([run], *cells.values())), "measured")
    rows = []
    for variant in [name for name in CHANGES if name in known or name in cells]:
        results = cells.get(variant, [])
        row: dict[str, Any] = {"variant": variant}
        row |= _paper_cells(known.get(variant), f"paper FID (FFHQ, {paper})")
        for title in ("FID", "KID"):
            of = spread(results, title.lower())
            row[f"{title} ({measured})"] = of.mean
            row |= {f"{title} std": of.std, f"{title} min": of.least}
        for title, key in (_SECOND | _OLDER).items():
            of = spread(results, key)
            row |= {title: of.mean, f"{title} std": of.std}
        rows.append(row | _about(spread(results, "fid"), len(results), measured))
    return pd.DataFrame(rows)


def differences_table(cells: Mapping[str, Sequence[Result]]) -> pd.DataFrame:
    """Subtract `full` from every other variant; NaN for an interval of a single seed.

    Args:
        cells: name -> results, one for each training seed, in equal order; `full` among them.
    """
    rows = []
    for variant in [name for name in CHANGES if name in cells and name != "full"]:
        row: dict[str, Any] = {"variant": variant, "seeds": len(cells[variant])}
        for title, key in _COMPARED.items():
            of = difference(cells[variant], cells["full"], key)
            row |= {title: of.mean, f"{title} low": of.low, f"{title} high": of.high}
        rows.append(row)
    return pd.DataFrame(rows)


def parameters_table(counted: Mapping[str, int]) -> pd.DataFrame:
    """Compare the parameters of each network: "U-Net", "table" or "encoder", "latent model"."""
    ours = {name: count / 1e6 for name, count in counted.items()}
    ours["all parameters"] = sum(ours.values())
    numbers = paper_numbers("parameters")
    places = dict.fromkeys((n.model, n.quantity) for n in numbers)
    places |= dict.fromkeys(("Patch-DM", name) for name in ours)
    rows = []
    for model, part in places:
        of_part = [n for n in numbers if (n.model, n.quantity) == (model, part)]
        quoted = next((n for n in of_part if n.tag != "counted"), None)
        layout = next((n.value for n in of_part if n.tag == "counted"), None)
        row: dict[str, Any] = {"model": model, "part": part}
        row |= _paper_cells(quoted, "paper (M)")
        row["its layout, counted (M)"] = layout
        row["this run (M)"] = ours.get(part) if model == "Patch-DM" else None
        rows.append(row)
    return pd.DataFrame(rows)


def resolution_table(measured: pd.DataFrame) -> pd.DataFrame:
    """Show memory and time of a sampling step by the size of the image: RESOLUTION_COLUMNS."""
    numbers = {(n.size, n.quantity): n.value for n in paper_numbers("resolution")}
    sizes = pd.DataFrame({"size": list(dict.fromkeys(size for size, _ in numbers))})
    sizes["paper memory"] = [numbers[size, "memory"] for size in sizes["size"]]
    sizes["paper time"] = [numbers[size, "time"] for size in sizes["size"]]
    titles = {"memory_mib": "memory (MiB)", "seconds_per_step": "time (s a step)"}
    frame = sizes.merge(measured.rename(columns=titles), on="size", how="outer", sort=False)
    pixels = frame["size"].map(lambda size: math.prod(map(int, size.split("x"))))
    return frame.iloc[pixels.argsort(kind="stable")]


def _paper_cells(number: Number | None, title: str) -> dict[str, Any]:
    if number is None:
        return {title: None, "tag": ""}
    note = f"({number.note})" if number.note else ""
    return {title: number.value, "tag": f"{number.tag} {note}".strip()}


def _about(of: Spread, seeds: int, source: Source) -> dict[str, Any]:
    """Say how the metric of a row was measured, if it was."""
    if math.isnan(of.mean):
        return {"extractor": "", "n": None, "seeds": None, "tolerance": math.nan}
    return {**source._asdict(), "seeds": seeds, "tolerance": of.tolerance}
