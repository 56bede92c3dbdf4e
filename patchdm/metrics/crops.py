"""Random crops at full resolution: detail that squashing a whole image to 299 pixels hides."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def random_crops(
    images: np.ndarray, keys: np.ndarray, *, size: int, per_image: int, seed: int
) -> Iterator[np.ndarray]:
    """Yield one square crop of every image, `per_image` times.

    Where an image is cropped depends on its key and the seed alone, not on its neighbours.

    Args:
        images: (n, H, W, 3) uint8.
        keys: of each image, (n,), 0 or more.
        size: side of the crops in pixels, at most that of an image.
        per_image: crops of an image.
        seed: of the draws.

    Yields:
        (n, size, size, 3) uint8.
    """
    most = np.array(images.shape[1:3]) - size
    draws = [np.random.default_rng([seed, key]) for key in keys]
    corners = np.stack([draw.integers(most + 1, size=(per_image, 2)) for draw in draws], axis=1)
    for tops_and_lefts in corners:
        places = zip(images, tops_and_lefts.tolist(), strict=True)
        yield np.stack([image[y : y + size, x : x + size] for image, (y, x) in places])
