"""The metrics of a set of images against the real ones, and what tables call them."""

from __future__ import annotations

import math

import numpy as np

from patchdm.metrics.fidelity import fid, kid
from patchdm.metrics.judge import Judge
from patchdm.metrics.manifolds import manifold, radii
from patchdm.metrics.seams import border_scores, score_of_maps, worst
from patchdm.metrics.statistics import Statistics

_MEASURES = {
    "fid": ("FID-{}", 3), "sfid": ("sFID-{}", 3),
    "kid": ("KID-{}", 5), "kid_sem": ("KID-{}-sem", 6), "kid_std": ("KID-{}-std", 5),
    "kid_unseen": ("KID-{}-unseen", 5),
    "precision": ("Precision-{}", 4), "recall": ("Recall-{}", 4),
    "density": ("Density-{}", 4), "coverage": ("Coverage-{}", 4),
    "coherence": ("Coherence-{}", 4),
    "crop_fid": ("CropFID-{}", 3), "seam": ("Seam", 4), "seam_padded": ("Seam-padded", 4),
    "seam_worst": ("Seam-worst", 4), "seam_mean": ("Seam-mean", 4),
}  # fmt: skip
"""Key of a metric -> its column in tables, and its decimals: linear algebra differs further down
between machines."""
MEASURES = tuple(_MEASURES)
"""Keys of the metrics, in the order of the tables."""


def columns(label: str) -> dict[str, str]:
    """Return the column of each metric; those of features are named after their extractor."""
    return {key: name.format(label) for key, (name, _) in _MEASURES.items()}


def rounded(metrics: dict[str, float]) -> dict[str, float]:
    """Round metrics to what they mean."""
    return {key: round(value, _MEASURES[key][1]) for key, value in metrics.items()}


def by_itself(images: Statistics, patch_size: int) -> dict[str, float]:
    """Return what a set says without another: coherence, and the seam scores of both grids."""
    maps = images.steps.means()
    scores = {
        "coherence": images.halves.correlation(),
        "seam": score_of_maps(*maps, patch_size),
        "seam_padded": score_of_maps(*maps, patch_size, patch_size // 2),
    }
    return rounded(scores)


def border_seams(images: Statistics, real: Statistics, patch_size: int) -> dict[str, float]:
    """Return the worst of the `border_scores` of both grids, and their mean."""
    scores = border_scores(images.steps.means(), real.steps.means(), patch_size)
    mean = float(np.mean([*scores.values()]))
    return rounded({"seam_worst": scores[worst(scores)], "seam_mean": mean})


def unseen_kid(images: Statistics, unseen: np.ndarray, judge: Judge) -> dict[str, float]:
    """Return KID to real images that were in no training, by features (t, dim): `kid_unseen`."""
    subset_size = judge.config.kid_subset_size
    found = kid(images.features, unseen, subset_size=subset_size, seed=judge.seed)
    return rounded({"kid_unseen": found.mean})


def compare(
    images: Statistics, real: Statistics, real_radii: np.ndarray, judge: Judge
) -> dict[str, float]:
    """Return the number of a set's images, `n`, and metrics by their keys, rounded.

    NaN stands for what cannot be measured: sfid where the extractor has no spatial layer, recall
    where there are not more images than nearest_k. `real_radii` (k,) are of the kept real features.
    """
    k, sets = judge.config.nearest_k, (images.features, real.features)
    subsets = kid(*sets, subset_size=judge.config.kid_subset_size, seed=judge.seed)
    own_radii = radii(images.features, k) if len(images.features) > k else None
    manifolds = manifold(*sets, sample_radii=own_radii, real_radii=real_radii, k=k)
    measured = {
        "fid": fid(images.pooled, real.pooled),
        "sfid": fid(images.spatial, real.spatial) if images.spatial and real.spatial else math.nan,
        "kid": subsets.mean,
        "kid_sem": subsets.sem,
        "kid_std": subsets.std,
        **manifolds._asdict(),
        "crop_fid": fid(images.crops, real.crops),
    }
    return {
        "n": images.pooled.count,
        **rounded(measured),
        **by_itself(images, judge.patch_size),
        **border_seams(images, real, judge.patch_size),
    }
