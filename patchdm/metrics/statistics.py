"""What all metrics need of a set of images, from one pass over it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Self, TypeVar

import numpy as np

from patchdm.metrics.coherence import HalfSums, halves
from patchdm.metrics.extractors import Features
from patchdm.metrics.judge import Judge
from patchdm.metrics.moments import Moments
from patchdm.metrics.neighbours import thumbnails
from patchdm.metrics.seams import StepMaps

_Part = TypeVar("_Part", Moments, StepMaps, HalfSums)
KEPT = 50_000
"""Images of a set whose features are kept (at equal distances, where there are more).

KID, precision .. coverage and neighbours need features; FID needs moments only. 50,000 features of
2048 numbers take 410 MB, their thumbnails of 32 x 32 pixels 154 MB.
"""


@dataclass(frozen=True)
class Statistics:
    """Of a set of images: moments of features, steps, halves, and what is kept of single images."""

    pooled: Moments
    spatial: Moments | None  # None: the extractor has no spatial layer
    crops: Moments
    steps: StepMaps
    halves: HalfSums
    kept: np.ndarray  # positions in the set of the images below, (k,) int64, ascending
    features: np.ndarray  # pooled, (k, dim) float32
    thumbs: np.ndarray  # (k, h, w, 3) uint8

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what `from_arrays` takes back."""
        arrays = {name: getattr(self, name) for name in ("kept", "features", "thumbs")}
        for name in ("pooled", "spatial", "crops", "steps", "halves"):
            if part := getattr(self, name):
                arrays |= {f"{name}_{key}": np.asarray(of) for key, of in vars(part).items()}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """Return the statistics that `arrays` wrote.

        Raises:
            KeyError: an array is missing.
        """
        return cls(
            pooled=_restored(Moments(0), arrays, "pooled"),
            spatial=_restored(Moments(0), arrays, "spatial") if "spatial_count" in arrays else None,
            crops=_restored(Moments(0), arrays, "crops"),
            steps=_restored(StepMaps(1, 1), arrays, "steps"),
            halves=_restored(HalfSums(0), arrays, "halves"),
            kept=arrays["kept"],
            features=arrays["features"],
            thumbs=arrays["thumbs"],
        )


def _restored(part: _Part, arrays: Mapping[str, np.ndarray], name: str) -> _Part:
    """Give a part of the statistics, which is empty, what `Statistics.arrays` wrote of it."""
    values = {key: arrays[f"{name}_{key}"] for key in vars(part)}
    vars(part).update(values, count=int(values["count"]))
    return part


def collect(
    batches: Iterable[tuple[np.ndarray, np.ndarray]], count: int, judge: Judge
) -> Statistics:
    """Return the statistics of a set of `count` images, each read once.

    Args:
        batches: keys (n,), which say where an image is cropped, and images (n, H, W, 3) uint8.
        count, judge: images in all batches together; extractor, seed and crops.

    Raises:
        PatchDMError: a feature is no finite number.
        ValueError: there are not `count` images, or fewer than two.
    """
    statistics, done = None, 0
    for keys, images in batches:
        features = judge.extractor.features(images)
        statistics = statistics or _empty(features, images, count)
        _add(statistics, done, features, images)
        statistics.halves.add(*(judge.extractor.features(half).pooled for half in halves(images)))
        for of_crops in _crop_features(keys, images, judge):
            statistics.crops.add(of_crops)
        done += len(images)
    if statistics is None or done != count or count < 2:
        raise ValueError(f"found {done} images, expected are {count}, at least 2")
    return statistics


def collect_crops(
    batches: Iterable[tuple[np.ndarray, np.ndarray]], judge: Judge
) -> tuple[Moments, StepMaps]:
    """Return those of a set's statistics that look at no whole image: of crops, and steps.

    Args, errors: as of `collect`; one image is enough.
    """
    moments, steps = None, None
    for keys, images in batches:
        steps = steps or StepMaps(*images.shape[1:3])
        steps.add(images)
        for features in _crop_features(keys, images, judge):
            moments = moments or Moments(features.shape[1])
            moments.add(features)
    if moments is None or steps is None:
        raise ValueError("found no image, at least one is needed")
    return moments, steps


def _crop_features(keys: np.ndarray, images: np.ndarray, judge: Judge) -> Iterator[np.ndarray]:
    """Yield the features of one crop of each image, (n, dim), as often as the judge looks."""
    size, per_image = judge.config.crop_size, judge.config.crops_per_image
    for crops in random_crops(images, keys, size=size, per_image=per_image, seed=judge.seed):
        yield judge.extractor.features(crops).pooled


def random_crops(
    images: np.ndarray, keys: np.ndarray, *, size: int, per_image: int, seed: int
) -> Iterator[np.ndarray]:
    """Yield one square crop of every image, `per_image` times.

    They show detail at full resolution, which squashing a whole image to 299 pixels hides. Where
    an image is cropped depends on its key and the seed alone, not on its neighbours.

    Args:
        images: (n, H, W, 3) uint8, of `keys` (n,), 0 or more.
        size: side of the crops in pixels, at most that of an image.

    Yields:
        (n, size, size, 3) uint8.
    """
    most = np.array(images.shape[1:3]) - size
    draws = [np.random.default_rng([seed, key]) for key in keys]
    corners = np.stack([draw.integers(most + 1, size=(per_image, 2)) for draw in draws], axis=1)
    for tops_and_lefts in corners:
        places = zip(images, tops_and_lefts.tolist(), strict=True)
        yield np.stack([image[y : y + size, x : x + size] for image, (y, x) in places])


def _empty(features: Features, images: np.ndarray, count: int) -> Statistics:
    """Return the statistics of no images yet, sized by the first of them."""
    kept = np.linspace(0, count - 1, min(count, KEPT)).round().astype(np.int64)
    dim = features.pooled.shape[1]
    return Statistics(
        pooled=Moments(dim),
        spatial=None if features.spatial is None else Moments(features.spatial.shape[1]),
        crops=Moments(dim),
        steps=StepMaps(*images.shape[1:3]),
        halves=HalfSums(dim),
        kept=kept,
        features=np.empty((len(kept), dim), np.float32),
        thumbs=np.empty((len(kept), *thumbnails(images[:1]).shape[1:]), np.uint8),
    )


def _add(statistics: Statistics, done: int, features: Features, images: np.ndarray) -> None:
    """Take in a batch whose first image has the position `done` in the set."""
    statistics.pooled.add(features.pooled)
    if statistics.spatial is not None and features.spatial is not None:
        statistics.spatial.add(features.spatial)
    statistics.steps.add(images)
    first, last = np.searchsorted(statistics.kept, [done, done + len(images)])
    here = statistics.kept[first:last] - done
    statistics.features[first:last] = features.pooled[here]
    statistics.thumbs[first:last] = thumbnails(images)[here]
