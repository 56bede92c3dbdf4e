"""FID and KID of two sets of images, computed by torch-fidelity from their features.

Features of a set are extracted once and serve every comparison. torch-fidelity's own cache is
not used: its key knows neither the images nor the weights.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor
from torch_fidelity.metric_fid import (
    KEY_METRIC_FID,
    fid_features_to_statistics,
    fid_statistics_to_metric,
)
from torch_fidelity.metric_kid import (
    KEY_METRIC_KID_MEAN,
    KEY_METRIC_KID_STD,
    kid_features_to_metric,
)

from patchdm.metrics.extractors import Extractor


class Fidelity(TypedDict):
    """FID, and KID with its standard deviation over the subsets."""

    fid: float
    kid: float
    kid_std: float


def extract(batches: Iterable[np.ndarray], extractor: Extractor) -> Tensor:
    """Return the features of a set of images, (n, dim) float32.

    Args:
        batches: arrays (n, H, W, 3) uint8; they may be read as they are asked for.
        extractor: a loaded feature extractor.
    """
    return torch.cat([extractor.features(batch) for batch in batches])


def fidelity(
    features: Tensor, reference: Tensor, *, kid_subset_size: int, kid_seed: int
) -> Fidelity:
    """Compare the features of images with those of reference images.

    FID (1706.08500) is the Frechet distance of two Gaussians; it grows as images get fewer.
    KID (1801.01401) is an unbiased squared MMD, here averaged over 100 subsets.

    Args:
        features: (n, dim) float.
        reference: (m, dim) float.
        kid_subset_size: images of a subset, cut to the smaller of both sets.
        kid_seed: seed of the subsets.

    Raises:
        ValueError: a set has fewer than two images.
    """
    smaller = min(len(features), len(reference))
    if smaller < 2:
        raise ValueError(f"found {smaller} images in a set, at least 2 are needed")
    a, b = features.double(), reference.double()
    statistics = [fid_features_to_statistics(x) for x in _in_their_span(a, b)]
    fid = fid_statistics_to_metric(*statistics, verbose=False)
    kid = kid_features_to_metric(
        a, b, kid_subset_size=min(kid_subset_size, smaller), rng_seed=kid_seed, verbose=False
    )
    return Fidelity(
        fid=max(0.0, fid[KEY_METRIC_FID]),  # equal sets come out a rounding error below zero
        kid=kid[KEY_METRIC_KID_MEAN],
        kid_std=kid[KEY_METRIC_KID_STD],
    )


def _in_their_span(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return two sets in coordinates of the space they span, if it has fewer dimensions.

    That is a rotation, which FID does not see, but its eigenvalues cost the cube of the
    dimensions: 448 instead of 1280 for 224 images each.
    """
    if len(a) + len(b) >= a.shape[1]:
        return a, b
    basis = torch.linalg.qr(torch.cat([a, b]).T).Q
    return a @ basis, b @ basis
