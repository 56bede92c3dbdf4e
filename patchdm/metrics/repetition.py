"""Whether a large image repeats itself: how far its parts are apart, next to those of others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from patchdm.formats.images import Pixels
from patchdm.metrics.distances import distance_blocks


def parts_of(images: Pixels, rows: int, cols: int) -> Pixels:
    """Cut images (n, H, W, 3) into equal parts, (n * rows * cols, H // rows, W // cols, 3).

    Row by row, image by image; pixels that are left over on the right and below are left out.
    """
    count, height, width = len(images), images.shape[1] // rows, images.shape[2] // cols
    whole = images[:, : rows * height, : cols * width]
    grid = whole.reshape(count, rows, height, cols, width, 3).swapaxes(2, 3)
    return grid.reshape(-1, height, width, 3)


def repetition(features: NDArray[np.float32]) -> float:
    """Return how much nearer parts of one image are to each other than to those of other images.

    Compared are parts at different places, so that a sky above and a ground below count in both.
    Parts of one image share its light and its colours, so real images are above 0.

    Args:
        features: (n, parts, dim), of the parts of each image at the same places.

    Returns:
        1 - (mean distance within the images) / (mean distance between them): 1 where each image
        repeats one part, 0 where its parts differ as those of different images; NaN for lack of a
        second image or part, or where no parts differ.
    """
    count, parts, dim = features.shape
    vectors = features.reshape(-1, dim)
    image, place = np.divmod(np.arange(count * parts), parts)
    within, between = 0.0, 0.0
    for rows, block in distance_blocks(vectors, vectors):
        distances = block.double().numpy() * (place[rows, None] != place)
        same = image[rows, None] == image
        within += distances[same].sum()
        between += distances[~same].sum()
    between /= max(count - 1, 1)  # so many times as many pairs
    return float(1 - within / between) if between else float("nan")
