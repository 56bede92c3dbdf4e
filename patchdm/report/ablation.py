"""The sections of the ablation: scores, border profiles, samples and magnified seams by variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from patchdm.formats.images import Pixels
from patchdm.formats.patch_store import PatchStore
from patchdm.metrics.images import Samples, photographs_of
from patchdm.metrics.seams import step_maps
from patchdm.report import figures
from patchdm.report.gallery import REAL, ROW_IMAGES
from patchdm.report.inputs import Cell
from patchdm.report.parts import Picture, Section, Table

_ALIKE = (
    "Every row has the same sampling seeds in the same order, so images below each other began as "
    "the same noise. Networks of the first training seed."
)


@dataclass(frozen=True)
class Variant:
    """What there is of a variant.

    Attributes:
        cells: its metrics, one for each training seed.
        images: (n, H, W, 3), the first samples of its first training seed.
        profile: (p,) mean steps of all its samples, from `by_place`.
    """

    cells: Sequence[Cell]
    images: Pixels
    profile: np.ndarray


def read_variant(cells: Sequence[Cell], samples: Sequence[Samples], patch_size: int) -> Variant:
    """Return a variant from its metrics and its samples, one of each for each training seed."""
    images = (image[None] for of_cell in samples for _, image in of_cell.each(of_cell.seeds))
    profile = by_place(*step_maps(images), patch_size)
    return Variant(cells, samples[0].images(samples[0].seeds[:ROW_IMAGES]), profile)


def by_place(across: np.ndarray, down: np.ndarray, patch_size: int) -> np.ndarray:
    """Average steps over all that lie equally far behind a patch border.

    Args:
        across, down: (H, W-1) and (H-1, W), from `step_maps`.
        patch_size: p; borders lie at its multiples.

    Returns:
        (p,) mean steps; the first is that across the borders.
    """
    steps = np.concatenate([across.sum(axis=0), down.sum(axis=1)])
    counts = np.repeat([len(across), down.shape[1]], [across.shape[1], len(down)])
    places = np.concatenate([np.arange(1, 1 + side) for side in (across.shape[1], len(down))])
    places %= patch_size
    total = np.bincount(places, counts, patch_size)
    return np.bincount(places, steps, patch_size) / total


def ablation(
    variants: Mapping[str, Variant],
    store: PatchStore,
    *,
    tables: Sequence[Table],
    patch_size: int,
) -> list[Section]:
    """Compare the variants; without any, there is no section.

    Args:
        variants: by name, in the order shown.
        store: of the training images.
        tables: of the same scores.
        patch_size: p.
    """
    if not variants:
        return []
    crops = [
        Picture(
            f"ablation-crops-{name}",
            name,
            f"Worst seam {_mean([cell.seam_worst_samples for cell in of.cells]):.3f}",
            figures.crops(of.images, patch_size),
        )
        for name, of in variants.items()
    ]
    sheets = [
        Picture(f"ablation-samples-{name}", name, _scores(of.cells), figures.row(of.images))
        for name, of in variants.items()
    ]
    return [
        Section(
            key="ablation",
            title="Ablation",
            text="Each variant is one switch away from the run, trained, sampled and measured "
            "alike; full is the run's method. What differs in sampling alone uses its networks.",
            tables=tables,
            pictures=_plots(variants, store, patch_size),
            shape="wide",
        ),
        Section(
            key="ablation-samples",
            title="Samples by variant",
            text=_ALIKE,
            pictures=sheets,
            shape="rows",
        ),
        Section(
            key="ablation-crops",
            title="Seams by variant, magnified",
            text=f"Regions around corners of shifted and of padded patches in turn. {_ALIKE}",
            pictures=crops,
            shape="rows",
        ),
    ]


def _plots(variants: Mapping[str, Variant], store: PatchStore, patch_size: int) -> list[Picture]:
    """Plot FID and worst seam of each variant, and its steps around patch borders."""
    train = (image[None] for _, image in photographs_of(store, store.rows("train")))
    profiles = {name: variant.profile for name, variant in variants.items()}
    profiles[REAL] = by_place(*step_maps(train), patch_size)
    cells = {name: variant.cells for name, variant in variants.items()}
    source = next(cell for of_variant in cells.values() for cell in of_variant)
    fid = {name: [cell.fid_samples for cell in found] for name, found in cells.items()}
    seam = {name: [cell.seam_worst_samples for cell in found] for name, found in cells.items()}
    seeds = max(map(len, cells.values()))
    note = (
        f"Bars: mean over {seeds} training seeds, each a dot; lines: sample standard deviation."
        if seeds > 1
        else "One training seed: no deviation is known."
    )
    return [
        Picture(
            "ablation-fid",
            "FID by variant",
            f"{note} Lower is better.",
            figures.bars(fid, f"FID, {source.extractor}, n = {source.n_block:,}"),
        ),
        Picture(
            "ablation-seam",
            "Worst seam by variant",
            f"{note} Dotted: no seam.",
            figures.bars(seam, "score of the worst border", 1.0),
        ),
        Picture(
            "ablation-profiles",
            "Steps around patch borders",
            "Mean over all borders, samples and training seeds. A seam of the shifted patches is a "
            "peak at 0, one of the padded patches at the ends.",
            figures.border_profiles(profiles, patch_size),
        ),
    ]


def _scores(cells: Sequence[Cell]) -> str:
    fid = _mean([cell.fid_samples for cell in cells])
    return f"FID {fid:.1f}, worst seam {_mean([cell.seam_worst_samples for cell in cells]):.3f}"


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
