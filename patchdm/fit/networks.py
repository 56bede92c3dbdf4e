"""The networks that `patchdm fit` chooses among: those whose quality was measured, by patch size.

Each is that of a preset. docs/results.md has the measurements.
"""

from __future__ import annotations

from dataclasses import dataclass

from patchdm.errors import PatchDMError


@dataclass(frozen=True, kw_only=True)
class Known:
    """What a run of a preset reached, by EfficientNet-Lite0's features."""

    windows: int
    photographs: int
    views: int
    size: str
    samples: int
    fid: float
    blurred: float  # FID of its training images blurred 8 times
    held_out: float  # FID of photographs that it was not trained on


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network: the preset that has it, its patches, and what is known of it."""

    preset: str
    patch_size: int
    known: Known | None
    least_windows: int
    """Fewer than these are not worth training it."""
    gpu_only: bool = False


_STUDY = Known(
    windows=200_000, photographs=156, views=8, size="64x32", samples=1024, fid=117.0,
    blurred=237.1, held_out=81.2,
)  # fmt: skip
_DEMO = Known(
    windows=150_000, photographs=156, views=12, size="64x32", samples=224, fid=103.9,
    blurred=236.9, held_out=74.9,
)  # fmt: skip
_SHOWCASE = Known(
    windows=704_000, photographs=156, views=32, size="256x128", samples=224, fid=98.6,
    blurred=223.2, held_out=53.5,
)  # fmt: skip
BEST_PATCH = 32
"""The largest that was measured."""
LEAST_WINDOWS = 16_000
"""A tenth of the demo's training: shapes and colours, no detail."""
NETWORKS = (
    Network(preset="study", patch_size=8, known=_STUDY, least_windows=LEAST_WINDOWS),
    Network(preset="demo", patch_size=16, known=_DEMO, least_windows=LEAST_WINDOWS),
    Network(preset="showcase", patch_size=32, known=_SHOWCASE, least_windows=LEAST_WINDOWS),
    Network(preset="nature1024", patch_size=64, known=None, least_windows=5_000_000, gpu_only=True),
)
"""From small to large patches. The last one is the paper's; a quarter of its shortest training."""
_PATCHES = 8
"""Patches of an image, at least, where smaller patches would give as many."""


def networks_for(width: int, height: int, *, gpu: bool) -> list[Network]:
    """Return the networks for images of a size, the best one first.

    Large patches see more of the image at once; the image should have several all the same. The
    last network takes every budget.

    Raises:
        PatchDMError: no patch size divides the size, or the image is too small.
    """
    least = NETWORKS[0].patch_size
    if width % least or height % least or min(width, height) < 2 * least:
        sides = (max(2 * least, round(side / least) * least) for side in (width, height))
        near = "x".join(map(str, sides))
        raise PatchDMError(
            f"--size: found {width}x{height}, expected multiples of {least}, the smallest patch, "
            f"from {2 * least}x{2 * least} on, such as {near}"
        )
    divides = [
        network
        for network in NETWORKS
        if not width % network.patch_size and not height % network.patch_size
    ]
    several = [
        network
        for network in divides
        if min(width, height) >= 2 * network.patch_size
        and width * height >= _PATCHES * network.patch_size**2
    ]
    found = [network for network in several or divides[:1] if gpu or not network.gpu_only][::-1]
    ends = next(place for place, network in enumerate(found) if not network.gpu_only)
    return found[: ends + 1]
