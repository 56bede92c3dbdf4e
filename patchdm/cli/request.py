"""What `patchdm panorama` is asked for, refused before a model is loaded where it cannot be."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from pathlib import Path

from patchdm.errors import PatchDMError
from patchdm.formats import large
from patchdm.formats.images import read_image


def work_of(out: Path) -> Path:
    """Return the folder in which an image is made."""
    return out.with_name(f"{out.name}.work")


def check_panorama(
    size: Mapping[str, int],
    seeds: Sized,
    out: Path,
    *,
    lattice: Mapping[str, int],
    image: Path | None,
    viewed: bool,
    force: bool,
) -> None:
    """Refuse options that do not fit each other, files that are there, and what is no image.

    Args:
        size: "width" and "height" in pixels.
        seeds: of the codes, as many as the lattice has "columns" times "rows".
        out: the file; a folder `work_of` it shows that it was begun, and may be written.
        image: what it begins as, or None.
        viewed: write a page, too.
        force: replace a file.

    Raises:
        PatchDMError: it names the option.
    """
    if viewed and out.suffix != ".dzi":
        raise PatchDMError(f"--viewer: found --out {out}, expected NAME.dzi")
    columns, rows = lattice["columns"], lattice["rows"]
    if image is None and columns * rows != len(seeds):
        raise PatchDMError(
            f"--codes: found {columns}x{rows}, expected as many as --seeds: {len(seeds)}"
        )
    if image is not None:
        read_image(image)
    large.check_output(out, size["width"] * size["height"], force=force or work_of(out).exists())
